"""Bi-tuning: fine-tuning that also contrasts images with those of their own and other classes."""

import dataclasses

from jtln_tf.config import MOST_FACTOR, InputError, option
from jtln_tf.methods.base import Term, find_trained_variables
from jtln_tf.methods.consecutive import Consecutive


@dataclasses.dataclass(frozen=True)
class BiTuning(Consecutive):
    """Trains like `Consecutive`; on the target, two contrastive losses are added.

        CE(y, p_t(x))  +  bi_tuning_weight * (CCE + CCL)

        CCE = mean over positive h' of  - log [ exp(w_y h' / T) / sum over all h' of exp(w_y h' / T) ]
        CCL = mean over positive z' of  - log [ exp(z z' / T) / sum over all z' of exp(z z' / T) ]

    with h the features, z = P h their projection to bi_tuning_width numbers and w_y the target head's weights of the
    image's class, all of length 1. Without a neck, h and w_y get 1 and the bias as a further number first. A key, h'
    or z', comes from a network that follows slowly (factor bi_tuning_momentum), for a second augmented view. There are
    the last bi_tuning_keys of each class; those of the image's class are positive, and so is the image itself (its own
    h, and the z' of its second view).

    As in the paper but for these: the queues begin empty, keys that are missing do not count; the slow network runs as
    at inference, so its BatchNormalization uses moving statistics, which it follows too; BatchNormalization of the
    network sees the second view as well.

    Reference:
        Zhong, Wang, Kou, Wang, Long, 2020, Bi-tuning of pre-trained representations, arXiv:2011.06182, the losses L_CCE
        and L_CCL.
    """

    name = "bi_tuning"
    title = "consecutive with Bi-Tuning"
    reports = (*Consecutive.reports, "class_contrast_loss", "projection_contrast_loss")
    uses_teacher = True
    uses_second_view = True

    bi_tuning_weight: float = option(
        1.0, "bi_tuning: weight of both contrastive losses.", minimum=0.0, maximum=MOST_FACTOR, tuned=(0.1, 10.0)
    )
    bi_tuning_temperature: float = option(
        0.07, "bi_tuning: temperature of the contrastive losses.", minimum=1e-6, maximum=1e6, tuned=(0.03, 0.5)
    )
    bi_tuning_momentum: float = option(
        0.999, "bi_tuning: share of the network of keys that stays in each step.", minimum=0.0, maximum=1.0
    )
    bi_tuning_keys: int = option(40, "bi_tuning: keys of each class.", minimum=1, maximum=10**5)
    bi_tuning_width: int = option(128, "bi_tuning: width of the projection.", minimum=1, maximum=10**5)

    def make_state(self, network, cost=None):
        """Returns the projectors and the queues; `InputError` if the network does not fit."""
        import tensorflow as tf

        from jtln_tf.methods.bi_tuning.contrast import Contrast
        from jtln_tf.network import features_model, find_neck
        from jtln_tf.network.heads import head_layers

        find_trained_variables(self, network, "it changes the features")
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1:
            raise InputError(f"`method`={self.name} needs a single replica. Received: {replicas}.")
        width, head = features_model(network).output.shape[-1], head_layers(network, "target")
        if any("hidden" in layer.name for layer in head):
            raise InputError(
                f"`head_hidden_units` must be empty for method={self.name}, which compares features with the weights "
                "of classes. Received: a hidden layer."
            )
        vector_width = width if find_neck(network) else width + 1
        classes = network.output["target"].shape[-1]
        return Contrast(classes, width, vector_width, self.bi_tuning_width, self.bi_tuning_keys)

    def begin_stage(self, stage, moment):
        """Begins with no keys."""
        moment.state.begin()

    def losses(self, labels, outputs, moment):
        """Returns the cross-entropy and, on the target, the two contrastive losses."""
        terms = super().losses(labels, outputs, moment)
        if "target" in outputs:
            import tensorflow as tf

            from jtln_tf.methods.bi_tuning.contrast import contrast
            from jtln_tf.methods.terms import class_indices

            one, own = outputs["target"], class_indices(labels["target"])
            (vectors, projection), (_, key) = _describe(one, moment), _describe_key(one, moment)
            directions = tf.gather(_class_directions(moment), own)
            keys, classes, is_taken = moment.state.features.read()
            is_positive = own[:, None] == classes[None]
            scale = 1 / self.bi_tuning_temperature
            by_class = contrast(
                scale * tf.reduce_sum(vectors * directions, axis=1),
                scale * tf.matmul(directions, keys, transpose_b=True),
                is_positive,
                is_taken,
            )
            keys, _, _ = moment.state.projections.read()
            by_projection = contrast(
                scale * tf.reduce_sum(projection * key, axis=1),
                scale * tf.matmul(projection, keys, transpose_b=True),
                is_positive,
                is_taken,
            )
            terms["class_contrast_loss"] = Term(by_class, self.bi_tuning_weight)
            terms["projection_contrast_loss"] = Term(by_projection, self.bi_tuning_weight)
        return terms

    def observe(self, labels, outputs, moment):
        """Adds the keys of the batch, and lets the network of keys follow."""
        if "target" not in outputs:
            return
        from jtln_tf.methods.terms import class_indices
        from jtln_tf.network import features_model

        state, own = moment.state, class_indices(labels["target"])
        for queue, keys in zip(
            (state.features, state.projections), _describe_key(outputs["target"], moment), strict=True
        ):
            queue.add(keys, own)
        followed = [*features_model(moment.network).variables, *state.projector.variables]
        following = [*features_model(moment.teacher).variables, *state.key_projector.variables]
        for key, variable in zip(following, followed, strict=True):
            if variable.dtype.startswith("float"):
                key.assign_add((1 - self.bi_tuning_momentum) * (variable.value - key.value))


def _describe(outputs, moment):
    """Returns the unit vectors [B, E] and projections [B, P] of images."""
    return _add_one(outputs.features, moment), _project(outputs.features, moment.state.projector)


def _describe_key(outputs, moment):
    features = outputs.second.teacher.features
    return _add_one(features, moment), _project(features, moment.state.key_projector)


def _project(features, projector):
    import tensorflow as tf

    return tf.math.l2_normalize(projector(features), axis=1)


def _add_one(features, moment):
    """Returns features [B, D] of length 1; without a neck with 1 as a further number, for the bias."""
    import tensorflow as tf

    from jtln_tf.network import find_neck

    if not find_neck(moment.network):
        features = tf.concat([features, tf.ones_like(features[:, :1])], axis=1)
    return tf.math.l2_normalize(features, axis=1)


def _class_directions(moment):
    """Returns the weights [m, E] of the target's classes, of length 1; without a neck with their bias."""
    import tensorflow as tf

    from jtln_tf.network import find_neck

    head = moment.network.get_layer("target_logits")
    weights = tf.transpose(tf.convert_to_tensor(head.kernel))
    if not find_neck(moment.network):
        weights = tf.concat([weights, tf.convert_to_tensor(head.bias)[:, None]], axis=1)
    return tf.math.l2_normalize(weights, axis=1)
