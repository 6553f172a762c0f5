"""What the tests of backbones share."""

import keras
import numpy as np

from jtln_tf.backbones import build_backbone
from jtln_tf.config import NetworkConfig


def build(name, image_shape, **options):
    return build_backbone(NetworkConfig(backbone=name, **options), image_shape)


def draw_images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")


def save_model(path, *layers, side=8, channels=3):
    """Saves a sequential model and returns it."""
    model = keras.Sequential([keras.Input((side, side, channels)), *layers])
    model.save(path)
    return model


class Scaled(keras.layers.Layer):
    """A layer whose configuration is not complete."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs * float(self.factor)
