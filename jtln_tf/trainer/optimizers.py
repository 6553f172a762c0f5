"""Optimizers and learning rate schedules."""

import warnings

import keras
import tensorflow as tf

from jtln_tf.config import TrainingConfig

# Scales and offsets are few and do not cause overfitting.
_NOT_DECAYED = ["bias", "gamma", "beta"]


def build_optimizer(training: TrainingConfig, learning_rate: float, steps: int) -> keras.optimizers.Optimizer:
    """Builds the optimizer of one part of the network, its schedule running over the `steps` of a stage."""
    schedule = WarmUp(_build_decay(training, learning_rate, steps), training.warmup_steps)
    if training.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=training.weight_decay)
    else:
        decay = training.weight_decay or None
        optimizer = keras.optimizers.SGD(schedule, momentum=training.momentum, weight_decay=decay)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    return optimizer


def apply_gradients(
    optimizer: keras.optimizers.Optimizer, gradients: list, variables: list, clip_norm: float = 0.0
) -> None:
    """Applies the gradients of a replica, of a loss that the optimizer scaled.

    Args:
        optimizer: Keras optimizer that sums gradients over the replicas.
        gradients: One gradient per variable; None for the head of a domain that is not in the batch, which is left as
            it is.
        variables: The variables.
        clip_norm: Largest global norm of the gradient of the whole batch; 0 does not clip.
    """
    if clip_norm:
        gradients = _clip(optimizer, gradients, clip_norm)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(inner, keras.optimizers.MultiOptimizer):
        pairs = [pair for pair in zip(gradients, variables, strict=True) if pair[0] is not None]
        gradients, variables = zip(*pairs, strict=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gradients do not exist for variables")
        optimizer.apply(list(gradients), list(variables))


def _clip(optimizer, gradients, clip_norm):
    present = [gradient for gradient in gradients if gradient is not None]
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync > 1:
        # The norm is that of the whole batch. The optimizer sums over the replicas once more.
        present = context.all_reduce(tf.distribute.ReduceOp.SUM, present)
    clipped, _ = tf.clip_by_global_norm(present, optimizer.scale_loss(tf.constant(clip_norm)))
    clipped = iter(clipped)
    count = context.num_replicas_in_sync
    return [None if gradient is None else next(clipped) / count for gradient in gradients]


def _build_decay(training, learning_rate, steps):
    schedules = keras.optimizers.schedules
    if training.schedule == "cosine":
        return schedules.CosineDecay(learning_rate, decay_steps=steps)
    if training.schedule == "step":
        # Keras counts from 0 and changes after the boundary.
        boundaries = [max(0, round(share * steps) - 1) for share in sorted(training.step_boundaries)]
        rates = [learning_rate * training.step_factor**index for index in range(len(boundaries) + 1)]
        return schedules.PiecewiseConstantDecay(boundaries, rates)
    return schedules.PiecewiseConstantDecay([0], [learning_rate, learning_rate])


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Lets the learning rate of another schedule grow linearly over the first steps."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, warmup_steps: int):
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self._find_rate = tf.function(self._rate, autograph=False)

    def __call__(self, step):
        """Returns the learning rate at a step, a scalar tensor."""
        # Two dozen operations, one by one, would take longer than all else in an entry of the log.
        return self._find_rate(tf.convert_to_tensor(step)) if tf.executing_eagerly() else self._rate(step)

    def _rate(self, step):
        share = (keras.ops.cast(step, "float32") + 1.0) / max(self.warmup_steps, 1)
        return self.schedule(step) * keras.ops.minimum(share, 1.0)

    def get_config(self):
        """Returns the arguments, for Keras."""
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "warmup_steps": self.warmup_steps}
