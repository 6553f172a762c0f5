"""BatchNormalization that takes the statistics of some channels from the batch, of the others from the moving ones."""

import functools

import keras
import tensorflow as tf

from jtln_tf.backbones.dropout import current_step


@keras.saving.register_keras_serializable(package="jtln_tf")
class StochasticNormalization(keras.layers.BatchNormalization):
    """BatchNormalization that chooses in training, for each channel and step, the statistics that it normalizes with.

        y = s y_batch + (1 - s) y_moving,    s ~ Bernoulli(share) for each channel

    The moving statistics go on following the batches. It is plain BatchNormalization until `mix_statistics` gives it
    the share, and where no step is known.

    Reference:
        Kou, You, Long, Wang, 2020, Stochastic normalization, NeurIPS 33, the forward pass of StochNorm.
    """

    choose = None

    def call(self, inputs, training=None, mask=None):
        """Normalizes [B, ..., C]."""
        step = current_step()
        if not training or not self.trainable or self.choose is None or step is None:
            return super().call(inputs, training=training, mask=mask)
        # First, because the other call moves the statistics.
        by_moving = super().call(inputs, training=False, mask=mask)
        by_batch = super().call(inputs, training=training, mask=mask)
        shape = [1] * len(inputs.shape)
        shape[self.axis] = inputs.shape[self.axis]
        return tf.where(tf.reshape(self.choose(step, shape[self.axis]), shape), by_batch, by_moving)


def mix_statistics(model: keras.Model, share: keras.Variable, seed: keras.Variable) -> int:
    """Lets the trained BatchNormalization layers of a model mix statistics, and returns how many there are.

    Args:
        model: The model, which is changed in place.
        share: Probability that a channel is normalized with the statistics of the batch, a scalar.
        seed: Seed of the choice, an int64 scalar; all replicas choose alike.
    """
    kinds = (keras.layers.BatchNormalization, StochasticNormalization)
    norms = [layer for layer in model._flatten_layers() if type(layer) in kinds and layer.trainable]
    for number, layer in enumerate(norms):
        # A layer cannot be exchanged in a model that is built, and the two differ in nothing but `call`.
        layer.__class__ = StochasticNormalization
        layer.choose = functools.partial(_choose, share, seed, number)
    return len(norms)


def _choose(share, seed, number, step, count):
    key = tf.random.fold_in(tf.stack([tf.convert_to_tensor(seed), tf.cast(step, tf.int64)]), number)
    return tf.random.stateless_uniform([count], key) < tf.convert_to_tensor(share)
