"""What the tests of networks share."""

import keras
import numpy as np

from jtln_tf.backbones.batch_norm import set_batchnorm_policy
from jtln_tf.network import build_network

IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 12, 12, 1)).astype("float32")


def build_small(**options):
    return build_network("small_cnn", 5, 3, image_shape=(12, 12, 1), **options)


def build_residual(batchnorm="train"):
    """A network with BatchNormalization, whose statistics move fast, and a shortcut."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((12, 12, 1), name="image")
    x = layers.Conv2D(8, 3, name="conv")(layers.Rescaling(1 / 255)(image))
    x = layers.BatchNormalization(momentum=0.5, name="norm")(x)
    shortcut = layers.Conv2D(8, 3, padding="same", name="inside")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Add(name="add")([x, shortcut]))
    backbone = set_batchnorm_policy(keras.Model(image, x, name="backbone"), batchnorm)
    return build_network(backbone, 5, 3, image_shape=(12, 12, 1), head_hidden_units=(4,))
