"""Running means of what the steps report, over all replicas."""

import keras
import tensorflow as tf


class RunningMeans(keras.layers.Layer):
    """Means of named values since the last reset; every replica holds those of all of them.

    A step sums its values over the replicas at once, and results are read without asking other replicas or workers.
    """

    def __init__(self, names: tuple[str, ...]):
        """Makes the sums and counts of values of these names."""
        super().__init__(name="running_means", trainable=False)
        self._names = names
        self.sums = self.add_weight(
            shape=(2, len(names)),
            initializer="zeros",
            trainable=False,
            name="sums",
            dtype="float32",
            aggregation="only_first_replica",
        )

    def update(self, values: dict[str, tf.Tensor]) -> None:
        """Adds the values of a step by name: one per example [B], or a scalar; on each replica its own."""
        zero = tf.constant(0.0)
        totals = [tf.reduce_sum(values[name]) if name in values else zero for name in self._names]
        counts = [tf.cast(tf.size(values[name]), tf.float32) if name in values else zero for name in self._names]
        added = tf.stack([tf.stack(totals), tf.stack(counts)])
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            added = context.all_reduce(tf.distribute.ReduceOp.SUM, added)
        self.sums.assign(tf.convert_to_tensor(self.sums) + added)

    def result(self) -> dict[str, tf.Tensor]:
        """Returns the means by name, scalars; 0 if there was no value."""
        totals, counts = tf.unstack(tf.convert_to_tensor(self.sums))
        return dict(zip(self._names, tf.unstack(tf.math.divide_no_nan(totals, counts)), strict=True))

    def reset_state(self) -> None:
        """Forgets all values."""
        self.sums.assign(tf.zeros(self.sums.shape))
