"""The neck: brings the features of both domains to one centre, scale and metric."""

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.backbones import current_domain
from jtln_tf.config import SIDES


@keras.saving.register_keras_serializable(package="jtln_tf")
class Neck(keras.layers.Layer):
    """Normalizes features, centres each domain by its own mean, maps both by one shared matrix and normalizes again.

        u = x / |x|,    z = (u - mean of its domain) W / |(u - mean of its domain) W|

    W is trained. It begins as the identity, and the means as zeros, until `set_start` is called.
    """

    def __init__(self, **kwargs):
        # float32 under mixed precision: the map may amplify small differences.
        super().__init__(**{**kwargs, "dtype": "float32"})

    def build(self, input_shape):
        """Creates the variables for features [B, D]."""
        width = input_shape[-1]
        self.means = {
            side: self.add_weight(shape=(width,), initializer="zeros", trainable=False, name=f"{side}_mean")
            for side in SIDES
        }
        self.kernel = self.add_weight(shape=(width, width), initializer="identity", name="kernel")

    def call(self, features):
        """Returns unit vectors [B, D]; features are of the domains that `images_of` names."""
        units = tf.math.l2_normalize(features, axis=-1)
        return tf.math.l2_normalize(tf.matmul(units - self._mean(), self.kernel), axis=-1)

    def _mean(self):
        domain, means = current_domain(), {side: tf.convert_to_tensor(mean) for side, mean in self.means.items()}
        if isinstance(domain, str):
            return means[domain]
        return tf.where(domain[:, None], means["target"], means["source"])

    def set_start(self, source_mean, target_mean, kernel) -> None:
        """Sets the means [D] of both domains' normalized features, and the map [D, D]."""
        for side, mean in zip(SIDES, (source_mean, target_mean), strict=True):
            self.means[side].assign(mean)
        self.kernel.assign(kernel)


@keras.saving.register_keras_serializable(package="jtln_tf")
class CosineLogits(keras.layers.Layer):
    """Logits of unit vectors: their cosine to each class's weights, times a fixed scale.

        logits = scale (gain cos(z, w) + bias)

    `gain` and `bias` are 1 and 0, and not trained; a linear classifier that is found otherwise needs them.

    Reference:
        Gidaris, Komodakis, 2018, Dynamic few-shot visual learning without forgetting, arXiv:1804.09367.
    """

    def __init__(self, units: int, scale: float, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.units, self.scale = units, scale

    def build(self, input_shape):
        """Creates the class weights [D, classes]."""
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer="glorot_uniform", name="kernel")
        options = {"shape": (self.units,), "trainable": False}
        self.gain = self.add_weight(initializer="ones", name="gain", **options)
        self.bias = self.add_weight(initializer="zeros", name="bias", **options)

    def call(self, features):
        """Returns logits [B, classes] of unit vectors [B, D]."""
        cosines = tf.matmul(features, tf.math.l2_normalize(self.kernel, axis=0))
        return self.scale * (self.gain * cosines + self.bias)

    def set_classes(self, directions) -> None:
        """Sets the weights to the directions of the classes [classes, D]."""
        self.kernel.assign(directions.T)

    def set_linear(self, weights, bias) -> None:
        """Sets the logits to those of a linear classifier of unit vectors: weights [classes, D], bias [classes]."""
        lengths = np.maximum(np.linalg.norm(weights, axis=1), 1e-12)
        self.kernel.assign((weights / lengths[:, None]).T)
        self.gain.assign(lengths / self.scale)
        self.bias.assign(bias / self.scale)

    def get_config(self):
        """Returns the arguments, for saving."""
        return {**super().get_config(), "units": self.units, "scale": self.scale}


def find_neck(network: keras.Model) -> Neck | None:
    """Returns the neck of a network, or None if it has none."""
    return next((layer for layer in network.get_layer("backbone").layers if isinstance(layer, Neck)), None)
