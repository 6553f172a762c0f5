"""Whether loss, gradients and weights were usable in every step so far, noted on the device."""

import keras
import tensorflow as tf

# What `judge_update` judges, by name; no term of a loss is called so.
GRADIENTS, WEIGHTS = "gradients", "weights"
# An update of 1 is lost to the rounding of a larger float32: such a weight cannot be trained any further.
LARGEST_WEIGHT = 2.0**24


class Health(keras.layers.Layer):
    """Remembers the first step at which each term was not finite.

    The note is taken inside the step, on the device, so that no number has to be fetched after each step.
    """

    def __init__(self, terms: tuple[str, ...]):
        """Makes the note for terms of these names, and for what `judge_update` judges."""
        super().__init__(name="health", trainable=False)
        self._terms = terms = (*terms, GRADIENTS, WEIGHTS)
        # 0 is "never": steps count from 1 here.
        self.first_broken_steps = self.add_weight(
            shape=(len(terms),),
            initializer="zeros",
            trainable=False,
            name="first_broken_steps",
            dtype="int64",
            aggregation="only_first_replica",
        )

    def note(self, steps_before: tf.Tensor, values: dict[str, tf.Tensor]) -> None:
        """Notes which values of a step, by name, are not finite (or, of `judge_update`, not true) on any replica."""
        broken = [tf.logical_not(_is_fine(values[name])) if name in values else False for name in self._terms]
        counts = tf.cast(tf.stack(broken), tf.int64)
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            counts = context.all_reduce(tf.distribute.ReduceOp.SUM, counts)
        first = tf.convert_to_tensor(self.first_broken_steps)
        self.first_broken_steps.assign(tf.where((first == 0) & (counts > 0), steps_before + 1, first))

    def broken_terms(self) -> tuple[int, list[str]]:
        """Returns the first step at which something was not usable, and what: (0, []) if everything was.

        What follows from another thing is left out: gradients are named if all terms were finite, weights if the
        gradients were finite too.
        """
        steps = keras.ops.convert_to_numpy(self.first_broken_steps)
        if not steps.any():
            return 0, []
        first = int(steps[steps > 0].min())
        names = [name for name, step in zip(self._terms, steps, strict=True) if step == first]
        terms = [name for name in names if name not in (GRADIENTS, WEIGHTS)]
        return first, terms or names[:1]


def judge_update(gradients: list[tf.Tensor | None], weights: list[keras.Variable]) -> dict[str, tf.Tensor]:
    """Judges the gradients and the weights of a step, after its update.

    Returns whether all gradients are finite, and whether all weights are at most `LARGEST_WEIGHT` in size, a scalar
    bool each by name. Pass no gradients if their scale is being searched for, as in mixed precision: the optimizer
    leaves out what is not finite then.
    """
    judged = {WEIGHTS: [tf.abs(tf.convert_to_tensor(one)) <= LARGEST_WEIGHT for one in weights]}
    present = [one for one in gradients if one is not None]
    if present:
        judged[GRADIENTS] = [tf.math.is_finite(one) for one in present]
    return {name: tf.reduce_all([tf.reduce_all(part) for part in parts]) for name, parts in judged.items() if parts}


def _is_fine(values):
    return tf.reduce_all(values if values.dtype == tf.bool else tf.math.is_finite(values))
