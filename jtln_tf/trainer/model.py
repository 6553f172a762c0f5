"""The Keras model that trains the network: forward, losses, gradients, clip after reduction, apply."""

import dataclasses

import keras
import tensorflow as tf

from jtln_tf.backbones import scales_loss
from jtln_tf.config import SIDES, InputError
from jtln_tf.costs.config import CostConfig
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.methods import DEFAULT_METHOD, Method, Stage
from jtln_tf.methods.base import Moment, Setup
from jtln_tf.methods.terms import are_probabilities
from jtln_tf.network import backbone_variables, copy_network, head_variables
from jtln_tf.trainer.batch import read_batch
from jtln_tf.trainer.forward import Forward
from jtln_tf.trainer.health import Health, judge_update
from jtln_tf.trainer.means import RunningMeans
from jtln_tf.trainer.optimizers import apply_gradients
from jtln_tf.trainer.step_functions import StepFunction


@dataclasses.dataclass(frozen=True, eq=False)
class _Compiled:
    """What a model was compiled to, as attributes by name, and how the variables of its optimizer begin."""

    values: dict
    beginning: list


class _StepCount(keras.Variable):
    """A whole number that can be read as one also if each replica has a copy of it."""

    def __int__(self):
        return int(keras.ops.convert_to_numpy(self))


class JointModel(keras.Model):
    """Trains a two-headed network on batches of both domains by one of the methods.

    `fit` takes what `pair_domains` returns: dicts with the keys `source` and `target`, or one of them, each a pair of
    images and labels. The network passed in is trained in place; it is what is evaluated and exported. Under a
    distribution strategy, make and compile the model inside its scope.

    Examples:
        >>> import keras, jtln_tf as jt
        >>> source = jt.load_domain("builtin:mnist5k?per_class=5")
        >>> target = jt.load_domain("builtin:optdigits?per_class=3")
        >>> network = jt.build_network("small_cnn", 10, 10, image_shape=(28, 28, 1))
        >>> model = jt.JointModel(network, cost_matrix=jt.build_cost_matrix(source, target, "uniform"))
        >>> model.compile(keras.optimizers.Adam(1e-3))
        >>> pairs = jt.pair_domains(source, target, source_batch=8, target_batch=8)
        >>> history = model.fit(pairs, steps_per_epoch=2, verbose=0)
        >>> sorted(history.history)[:3]
        ['loss', 'marginal_error', 'sinkhorn_iterations']
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        method: Method | None = None,
        cost_matrix: CostMatrix | None = None,
        cost: CostConfig | None = None,
        **options,
    ):
        """Makes the model with all its state: nothing is added while a step is traced.

        Args:
            network: What `build_network` returns, or the part of it that is trained.
            method: Training method; None is JTLN with the given options.
            cost_matrix: Class costs [num_source_classes, num_target_classes]; None keeps the transport loss off until
                `set_cost_matrix` is called.
            cost: Options of costs that are found while training; None finds none.
            **options: Options of JTLN, such as `transport_weight` and `source_weight`.

        Raises:
            InputError: If an option is unknown or does not fit, or the cost matrix does not fit the heads.
        """
        super().__init__(name="joint_model")
        if method is not None and options:
            raise InputError(f"`method` must hold its options itself. Received: also {', '.join(options)}.")
        self.network = network
        self.method = method or DEFAULT_METHOD.from_values(options)
        layers = self.method.watched_layers(network)
        self.stage = None
        # Before the copy, which draws weights: a state begins alike for `start_again`.
        self.method_state = self.method.make_state(network, cost)
        self.teacher = copy_network(network) if self.method.uses_teacher else None
        teacher = Forward(self.teacher, layers) if self.method.uses_teacher else None
        self._forward = Forward(network, layers, teacher)
        # Counts over all stages of a run: schedules of a method follow it.
        self.steps_seen = _StepCount(
            0, trainable=False, name="steps_seen", dtype="int64", aggregation="only_first_replica"
        )
        terms = ("loss", *self.method.reports)
        self.health = Health(terms)
        names = (*terms, *(f"{side}_{kind}accuracy" for side in SIDES for kind in ("train_", "")))
        self._compiled = None
        self._means = RunningMeans(names)
        # All variables exist now, so a callback may save the model before its first step.
        self.built = True
        if cost_matrix is not None:
            self.set_cost_matrix(cost_matrix)

    def build(self, input_shape=None):
        """Does nothing: `__init__` creates all variables."""

    def set_cost_matrix(self, cost_matrix: CostMatrix) -> None:
        """Sets the class costs; training goes on with them from the next step.

        Raises:
            InputError: If the method uses no costs, or the shape does not fit the heads.
        """
        if not self.method.uses_costs:
            raise InputError(f"`cost_matrix` must not be given to a method without class costs, {self.method.title}.")
        self.method_state.set_costs(cost_matrix)

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer,
        *,
        backbone_optimizer: keras.optimizers.Optimizer | None = None,
        clip_norm: float = 0.0,
        **options,
    ) -> None:
        """Sets the optimizers.

        Args:
            optimizer: Keras optimizer of the heads, and of the backbone if that has none of its own.
            backbone_optimizer: Keras optimizer of the backbone, or None.
            clip_norm: Largest global norm of the gradient over all variables and replicas; 0 does not clip.
            **options: Passed on to `keras.Model.compile`, except losses and metrics, which the method defines.
        """
        backbone, heads = backbone_variables(self.network), head_variables(self.network)
        if self.method_state is not None:
            heads = heads + self.method_state.trainable_variables
        optimizer = keras.optimizers.get(optimizer)
        self._optimizers = {"head": optimizer}
        if backbone_optimizer is not None:
            self._optimizers["backbone"] = backbone_optimizer
            of_backbone = {id(variable) for variable in backbone}
            optimizer = keras.optimizers.MultiOptimizer(
                lambda variable, heads=optimizer: backbone_optimizer if id(variable) in of_backbone else heads
            )
        if scales_loss(self.network):
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        # XLA slows depthwise convolutions on a CPU down tenfold; Keras could choose it unasked.
        super().compile(optimizer=optimizer, **{"jit_compile": False, "auto_scale_loss": False, **options})
        self._clip_norm = clip_norm
        self.optimizer.build(backbone + heads)

    def keep_stages(self) -> None:
        """Keeps from now on what the model is compiled to for each stage, for runs that follow; it takes memory."""
        self._compiled = {}

    def keep_compiled(self, stage: Stage) -> None:
        """Keeps what the model was compiled to for a stage, if stages are kept, so that `take_up` finds it again."""
        if self._compiled is None:
            return
        self.make_train_function()
        values = {name: getattr(self, name) for name in ("optimizer", "_optimizers", "_clip_norm", "train_function")}
        self._compiled[stage] = _Compiled(values, [keras.ops.copy(one) for one in self.optimizer.variables])

    def take_up(self, stage: Stage) -> bool:
        """Takes up what was kept for a stage, with its optimizers as they were; returns whether there was any."""
        if stage not in (self._compiled or {}):
            return False
        kept = self._compiled[stage]
        for name, value in kept.values.items():
            setattr(self, name, value)
        for variable, value in zip(self.optimizer.variables, kept.beginning, strict=True):
            variable.assign(value)
        return True

    def start_again(self, network: keras.Model, state: keras.layers.Layer | None) -> None:
        """Takes the weights of a network of the same layers, and the values of a new state; stays compiled."""
        pairs = [(self.network, network), *([(self.method_state, state)] if state is not None else [])]
        for own, theirs in pairs:
            for variable, value in zip(own.variables, theirs.variables, strict=True):
                variable.assign(value)
        for variable in (self.steps_seen, *self.health.variables):
            variable.assign(keras.ops.zeros_like(variable))

    def learning_rates(self) -> dict[str, float]:
        """Returns the present learning rates, of the `head`s and, if it has its own, of the `backbone`."""
        return {part: float(optimizer.learning_rate) for part, optimizer in self._optimizers.items()}

    def fit(self, pairs, **options) -> keras.callbacks.History:
        """Trains on what `pair_domains` returns; takes the options of `keras.Model.fit`, and returns its history.

        Raises:
            InputError: If weights of classes or samples are given.
        """
        for name in ("class_weight", "sample_weight"):
            if options.get(name) is not None:
                raise InputError(f"`{name}` must not be given: the terms of the loss weigh every image alike.")
        # Keras shuffles by default and warns that it cannot: the pairs are in random order already.
        return super().fit(pairs, **{"shuffle": False, **options})

    def call(self, images, training=False):
        """Returns the probabilities of both heads, a dict of [B, n] and [B, m]."""
        return self.network(images, training=training)

    def train_step(self, data):
        """Takes one step on a dict of (images, labels) by domain; returns a dict whose keys name what it reported."""
        batch = read_batch(data, self.network, self.method.uses_second_view)
        moment = self._moment()
        own = self.method_state.trainable_variables if self.method_state is not None else []
        variables = self.network.trainable_variables + own
        with tf.GradientTape() as tape:
            outputs = self._look_at(batch, training=True, step=moment.step)
            terms = self._find_terms(batch, outputs, moment)
            loss = self._replica_share(terms)
            scaled = self.optimizer.scale_loss(loss)
        # What is reported is of the weights before the update, whatever order the operations run in.
        gradients = tape.gradient(scaled, variables)
        with tf.control_dependencies([term.values for term in terms.values()]):
            apply_gradients(self.optimizer, gradients, variables, self._clip_norm)
        self.method.observe(batch.labels, outputs, moment)
        values = {"loss": loss} | {name: term.values for name, term in terms.items()}
        has_scale = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        self.health.note(moment.step, values | judge_update([] if has_scale else gradients, variables))
        self.steps_seen.assign_add(1)
        return self._report(batch, outputs, terms, "train_accuracy")

    def test_step(self, data):
        """Computes the report of `train_step` without training."""
        batch = read_batch(data, self.network, self.method.uses_second_view)
        outputs = self._look_at(batch, training=False)
        return self._report(batch, outputs, self._find_terms(batch, outputs, self._moment()), "accuracy")

    @property
    def metrics(self):
        """Running means of the terms; `fit` resets them at the start of an epoch."""
        return [self._means]

    def make_train_function(self, force=False):
        """Makes the function that `fit` calls for each step."""
        if self.train_function is None or force:
            self.train_function = StepFunction(self, self.train_step, self._means)

    def make_test_function(self, force=False):
        """Makes the function that `evaluate` calls for each step."""
        if self.test_function is None or force:
            self.test_function = StepFunction(self, self.test_step, self._means)

    def begin_stage(self, stage: Stage, setup: Setup | None = None) -> None:
        """Tells the method that a stage begins; the teacher, if there is one, becomes a copy of the network.

        `setup` is for methods that look at the training images then.
        """
        if self.teacher is not None:
            for own, theirs in zip(self.teacher.variables, self.network.variables, strict=True):
                own.assign(theirs)
        self.stage = stage
        self.method.begin_stage(stage, dataclasses.replace(self._moment(), setup=setup))

    def _moment(self):
        return Moment(tf.convert_to_tensor(self.steps_seen), self.network, self.method_state, self.stage, self.teacher)

    def _look_at(self, batch, training, step=None):
        outputs = self._forward(batch.images, training, step=step)
        if batch.second_images:
            second = self._forward(batch.second_images, training, step=step, view=1)
            outputs = {side: dataclasses.replace(one, second=second[side]) for side, one in outputs.items()}
        return outputs

    def _find_terms(self, batch, outputs, moment):
        terms = self.method.losses(batch.labels, outputs, moment)
        unknown = sorted(set(terms) - set(self.method.reports))
        if unknown:
            raise ValueError(f"`reports` of {self.method.name} must name each term. Received: also {unknown[0]!r}.")
        return terms

    def _replica_share(self, terms):
        """Returns what this replica minimizes: gradients are summed over the replicas."""
        weighted = [term.weight * tf.reduce_mean(term.values) for term in terms.values() if term.weight is not None]
        # The layers' own regularization losses; like penalties, every replica computes them in full.
        return tf.add_n([*weighted, *self.network.losses]) / tf.distribute.get_strategy().num_replicas_in_sync

    def _report(self, batch, outputs, terms, accuracy):
        """Updates the running means; returns a dict with a key for each that was updated."""
        loss = self._replica_share(terms) * tf.distribute.get_strategy().num_replicas_in_sync
        values = {"loss": loss} | {name: term.values for name, term in terms.items()}
        for side, of_side in outputs.items():
            labels = batch.labels[side]
            # A mixed image counts for the class with the larger share.
            labels = tf.argmax(labels, axis=1) if are_probabilities(labels) else labels
            # `==` loses the rank of a batch of unknown size.
            hits = tf.equal(tf.argmax(of_side.head(side), axis=1, output_type=labels.dtype), labels)
            values[f"{side}_{accuracy}"] = tf.cast(hits, tf.float32)
        self._means.update(values)
        return dict.fromkeys(values, tf.constant(0.0))

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # The network is built already, and Keras cannot guess labels and outputs from a pair of batches.
        del iterator, data_batch
