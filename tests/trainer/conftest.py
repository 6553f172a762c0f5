"""A tiny network and its batches."""

import keras
import numpy as np
import tensorflow as tf

import jtln_tf as jt
from jtln_tf.costs.matrix import CostMatrix

SHAPE = (8, 8, 1)


def make_network(seed=0, *, has_norm=False, **options):
    keras.utils.set_random_seed(seed)
    image = keras.Input(SHAPE)
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.BatchNormalization()(x) if has_norm else x
    x = keras.layers.Dense(6, activation="relu")(x)
    return jt.build_network(keras.Model(image, x), 3, 2, image_shape=SHAPE, **options)


def make_batch(seed=0, source=4, target=2):
    rng = np.random.default_rng(seed)
    return {
        side: (
            tf.constant(rng.uniform(0, 255, (size, *SHAPE)), tf.float32),
            tf.constant(rng.integers(0, classes, size), tf.int32),
        )
        for side, size, classes in (("source", source, 3), ("target", target, 2))
    }


def make_pairs(domains=("source", "target"), **sizes):
    batch = make_batch(**sizes)
    return tf.data.Dataset.from_tensors({name: batch[name] for name in domains}).repeat()


def make_costs(value=1.0):
    return CostMatrix(np.full((3, 2), value) * np.arange(6).reshape(3, 2) / 6, ("a", "b", "c"), ("d", "e"))


def values_of(variables):
    return [variable.numpy().copy() for variable in variables]
