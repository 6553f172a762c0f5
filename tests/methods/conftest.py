"""A tiny convolutional network, its images, and outputs drawn at random."""

import types

import keras
import numpy as np
import tensorflow as tf

import jtln_tf as jt
from jtln_tf.data import Domain
from jtln_tf.data.reading.split import Split
from jtln_tf.methods.base import Moment, Outputs

SHAPE = (8, 8, 1)
CLASSES = {"source": 4, "target": 3}


def make_network(seed=0, **options):
    """Two convolutions with BatchNormalization, 6 features, heads of 4 and 3 classes."""
    keras.utils.set_random_seed(seed)
    image = keras.Input(SHAPE)
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(image)
    x = keras.layers.Conv2D(5, 3, 2, activation="relu", name="first")(x)
    x = keras.layers.BatchNormalization(momentum=0.8, name="norm")(x)
    x = keras.layers.Add(name="sum")([x, keras.layers.Conv2D(5, 3, padding="same", name="second")(x)])
    features = keras.layers.Dense(6, activation="relu", name="dense")(keras.layers.Flatten(name="flat")(x))
    return jt.build_network(keras.Model(image, features), *CLASSES.values(), image_shape=SHAPE, **options)


def make_split(classes, per_class=6, seed=0):
    """Noisy images with a bar for each class, class after class."""
    labels = np.repeat(np.arange(classes, dtype=np.int32), per_class)
    images = np.random.default_rng(seed).integers(0, 120, (len(labels), *SHAPE), np.uint8)
    images[np.arange(len(labels)), :, labels] = 230
    return Split(images, labels, SHAPE[0], SHAPE[2])


def make_setup():
    """What `begin_stage` may look at; the source has validation images, the target none."""
    domains = {}
    for side, classes in CLASSES.items():
        train, held_out, empty = make_split(classes), make_split(classes, seed=1), make_split(classes, 0)
        validation = held_out if side == "source" else empty
        domains[side] = Domain(side, tuple("abcd"[:classes]), train, validation, held_out)
    return types.SimpleNamespace(inputs=domains)


def make_outputs(rng, count=5, **others):
    """Random features of width 6 and logits."""
    parts = {"features": 6, "source": CLASSES["source"], "target": CLASSES["target"]}
    drawn = {name: tf.constant(rng.normal(size=(count, width)), tf.float32) for name, width in parts.items()}
    return Outputs(**drawn, **others)


def make_moment(network=None, state=None, **others):
    return Moment(tf.constant(0, tf.int64), network, state, **others)


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
