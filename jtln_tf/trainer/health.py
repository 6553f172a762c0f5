"""Whether every term of the loss was finite in every step so far, noted on the device."""

import keras
import tensorflow as tf


class Health(keras.layers.Layer):
    """Remembers the first step at which each term was not finite.

    The note is taken inside the step, on the device, so that no number has to be fetched after each step.
    """

    def __init__(self, terms: tuple[str, ...]):
        """Makes the note for terms of these names."""
        super().__init__(name="health", trainable=False)
        self._terms = terms
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
        """Notes which values of a step, by name of the term, are not finite on any replica."""
        broken = [
            tf.logical_not(tf.reduce_all(tf.math.is_finite(values[name]))) if name in values else False
            for name in self._terms
        ]
        counts = tf.cast(tf.stack(broken), tf.int64)
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            counts = context.all_reduce(tf.distribute.ReduceOp.SUM, counts)
        first = tf.convert_to_tensor(self.first_broken_steps)
        self.first_broken_steps.assign(tf.where((first == 0) & (counts > 0), steps_before + 1, first))

    def broken_terms(self) -> tuple[int, list[str]]:
        """Returns the first step at which a term was not finite and the terms that were not; (0, []) if all were."""
        steps = keras.ops.convert_to_numpy(self.first_broken_steps)
        if not steps.any():
            return 0, []
        first = int(steps[steps > 0].min())
        return first, [name for name, step in zip(self._terms, steps, strict=True) if step == first]
