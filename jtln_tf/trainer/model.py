"""The Keras model that trains the network: one forward pass over both batches, then the joint loss."""

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.backbones import has_domain_norms, images_of
from jtln_tf.config import ObjectiveConfig
from jtln_tf.methods.jtln.class_means import ClassMeans
from jtln_tf.methods.jtln.objective import LabelledLogits, are_probabilities, joint_loss
from jtln_tf.network import SIDES, backbone_variables, features_model, head_variables, logits_model


class JointModel(keras.Model):
    """Trains a two-headed network on batches of both domains.

    `fit` takes what `pair_domains` returns: dicts with the keys `source` and `target`, or one of them, each a pair of
    images and labels, class indices or probabilities. The network passed in is trained in place; it is what is
    evaluated and exported.
    """

    def __init__(self, network, *, cost_matrix=None, class_memory_steps=0, **objective_options):
        """Makes the model.

        Args:
            network: What `build_network` returns.
            cost_matrix: `CostMatrix` [num_source_classes, num_target_classes]; None keeps the transport loss off until
                `set_cost_matrix` is called.
            class_memory_steps: Steps over which the mean probabilities that the source head gives the images of each
                class are gathered into `class_means`, from which costs can be estimated; 0 gathers none.
            **objective_options: Fields of `ObjectiveConfig`, such as `transport_weight` and `source_weight`.

        Raises:
            InputError: If an option is unknown to the objective or does not fit.
            ValueError: If the cost matrix does not fit the heads.
        """
        super().__init__(name="joint_model")
        self.network = network
        self.objective = ObjectiveConfig(**objective_options)
        self._logits_network = logits_model(network)
        self._has_domain_norms = has_domain_norms(features_model(network))
        self._num_classes = tuple(network.output[head].shape[-1] for head in SIDES)
        self.cost_values = self.add_weight(
            shape=self._num_classes, initializer="zeros", trainable=False, name="cost_values", dtype="float32"
        )
        # Counts from 0 over all stages of a run: the transport schedule follows it.
        self.steps_seen = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="steps_seen", dtype="int64"
        )
        self.has_costs = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="has_costs", dtype="float32"
        )
        self.class_means = {
            side: ClassMeans(classes, self._num_classes[0], class_memory_steps, name=f"{side}_class_means")
            for side, classes in zip(SIDES, self._num_classes, strict=True)
            if class_memory_steps
        }
        self.backbone_optimizer = None
        # By attribute, not through compile: Keras would look for labels with the names of the outputs.
        self._means = {}
        if cost_matrix is not None:
            self.set_cost_matrix(cost_matrix)

    def set_cost_matrix(self, cost_matrix):
        """Sets the class costs; training goes on with them from the next step."""
        if cost_matrix.values.shape != self._num_classes:
            raise ValueError(
                "`cost_matrix` must have shape [num_source_classes, num_target_classes] = "
                f"{list(self._num_classes)}. Received: {list(cost_matrix.values.shape)}."
            )
        self.cost_values.assign(cost_matrix.values)
        self.has_costs.assign(1.0)

    def costs_in_use(self):
        """Returns the class costs [n, m] of the transport loss as an array, or None before there are any."""
        return np.asarray(self.cost_values) if float(self.has_costs) else None

    def compile(self, optimizer, *, backbone_optimizer=None, clip_norm=0.0, **options):
        """Sets the optimizers.

        Args:
            optimizer: Keras optimizer of the heads, and of the backbone where it has none of its own.
            backbone_optimizer: Keras optimizer of the backbone, or None.
            clip_norm: Largest global norm of the gradient over all variables; 0 does not clip.
            **options: Passed on to `keras.Model.compile`, but for losses and metrics: those are the objective's.
        """
        # XLA slows depthwise convolutions on CPU down tenfold; Keras could choose it unasked.
        super().compile(optimizer=keras.optimizers.get(optimizer), **{"jit_compile": False, **options})
        self.backbone_optimizer = backbone_optimizer
        self._clip_norm = clip_norm
        backbone, heads = backbone_variables(self.network), head_variables(self.network)
        if backbone_optimizer is None:
            self.optimizer.build(backbone + heads)
        else:
            self.optimizer.build(heads)
            backbone_optimizer.build(backbone)

    def fit(self, pairs, **options):
        """Trains on what `pair_domains` returns; takes the options of `keras.Model.fit`, and returns its history."""
        # Keras shuffles by default and warns that it cannot: the pairs are in random order already.
        return super().fit(pairs, **{"shuffle": False, **options})

    def call(self, images, training=False):
        """Returns the probabilities of both heads, a dict of [B, n] and [B, m]."""
        return self.network(images, training=training)

    def train_step(self, data):
        """Takes one step on a dict of (images, labels) by domain; returns the running means of the loss terms."""
        domains = [domain for domain in SIDES if domain in data]
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            predictions = self._predict({domain: data[domain] for domain in domains})
            total, parts = joint_loss(
                predictions,
                tf.convert_to_tensor(self.cost_values),
                self.objective,
                self.transport_weight(),
                num_replicas=tf.distribute.get_strategy().num_replicas_in_sync,
            )
            # Keras adds the regularization losses of layers here; they are whole on every replica.
            regularization = tf.add_n(self.network.losses) if self.network.losses else 0.0
            total += regularization / tf.distribute.get_strategy().num_replicas_in_sync
        self._apply(tape.gradient(total, variables), variables)
        self.steps_seen.assign_add(1)
        for domain, prediction in predictions.items():
            if self.class_means:
                self.class_means[domain].update(tf.nn.softmax(prediction.source), prediction.labels)
            own, labels = prediction.source if domain == "source" else prediction.target, prediction.labels
            # Of a mixed image the class with the larger share counts.
            labels = tf.argmax(labels, axis=1, output_type=tf.int32) if are_probabilities(labels) else labels
            hits = tf.cast(tf.argmax(own, axis=1, output_type=labels.dtype) == labels, tf.float32)
            parts[f"{domain}_train_accuracy"] = tf.reduce_mean(hits)
        return self._track({"loss": total, **parts})

    def _predict(self, data):
        """Returns `LabelledLogits` by domain for (images, labels) by domain."""
        # As bytes they came here in a quarter of the time, over the memory of a GPU too.
        data = {domain: (tf.cast(images, tf.float32), labels) for domain, (images, labels) in data.items()}
        if self._has_domain_norms:
            predictions = {}
            for domain, (images, labels) in data.items():
                with images_of(domain):
                    logits = self._logits_network(images, training=True)
                predictions[domain] = LabelledLogits(labels, logits["source"], logits["target"])
            return predictions
        # One pass over both is the fast way.
        sizes = [tf.shape(images)[0] for images, _ in data.values()]
        logits = self._logits_network(tf.concat([images for images, _ in data.values()], axis=0), training=True)
        by_domain = zip(data, tf.split(logits["source"], sizes), tf.split(logits["target"], sizes), strict=True)
        return {domain: LabelledLogits(data[domain][1], source, target) for domain, source, target in by_domain}

    def transport_weight(self):
        """Weight of the transport loss in this step: 0 until it sets in and has costs, then growing."""
        since = tf.cast(tf.convert_to_tensor(self.steps_seen) - self.objective.transport_start_step, tf.float32)
        ramp = tf.clip_by_value((since + 1.0) / max(self.objective.transport_ramp_steps, 1), 0.0, 1.0)
        return self.objective.transport_weight * tf.where(since >= 0, ramp, 0.0) * tf.convert_to_tensor(self.has_costs)

    @property
    def metrics(self):
        """Running means of the loss terms; `fit` resets them at the start of an epoch."""
        return list(self._means.values())

    def _apply(self, gradients, variables):
        # A head whose domain is not in the batch has no gradient, and is left as it is.
        pairs = [
            (gradient, variable)
            for gradient, variable in zip(gradients, variables, strict=True)
            if gradient is not None
        ]
        gradients, variables = zip(*pairs, strict=True)
        if self._clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm)
        if self.backbone_optimizer is None:
            self.optimizer.apply(gradients, variables)
            return
        of_backbone = {id(variable) for variable in backbone_variables(self.network)}
        for optimizer, wanted in ((self.backbone_optimizer, True), (self.optimizer, False)):
            chosen = [(g, v) for g, v in zip(gradients, variables, strict=True) if (id(v) in of_backbone) == wanted]
            if chosen:
                optimizer.apply(*zip(*chosen, strict=True))

    def _track(self, values):
        for name, value in values.items():
            if name not in self._means:
                self._means[name] = keras.metrics.Mean(name=name)
            self._means[name].update_state(value)
        return {name: self._means[name].result() for name in values}

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # The network is built already, and Keras cannot guess labels and outputs from a pair of batches.
        del iterator, data_batch
