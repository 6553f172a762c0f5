"""Keras's augmentation layers with draws that follow a key in place of a state, so that any step can be drawn again.

A layer's transformation is asked for with a generator of ours; the layers' own are never used. Three are not taken as
they are (Keras 3.15): `RandAugment` draws one choice of operations for a whole batch, computes all of them for it, and
passes over the generator that it is given; `RandomColorJitter` passes over it too; `Equalization` counts the colours of
all images of a batch together. `Solarization` inverts nearly all of an image at a small factor.
"""

import functools
import zlib

import keras
import tensorflow as tf

_DEGREES = 360.0


class KeyedSeeds(keras.random.SeedGenerator):
    """Gives each draw of a layer a seed of its own that follows a key."""

    def __init__(self, key):
        """Starts at the first draw; `key` is an int64 tensor [2]."""
        # Not the parent's: it would make a variable.
        self._key, self._draws = key, 0

    def next(self, ordered=True):
        """Returns the seed of the next draw, int64 [2]."""
        del ordered
        self._draws += 1
        return tf.random.fold_in(self._key, tf.constant(self._draws, tf.int64))


def rotate(images, key, degrees):
    """Turns each image by up to `degrees` each way; the border is mirrored."""
    return _transform(images, key, "rotate", factor=degrees / _DEGREES)


def zoom(images, key, share):
    """Shows each image up to `share` larger or smaller; the border is mirrored."""
    return _transform(images, key, "zoom", height_factor=share)


def colour(images, key, strength, hue):
    """Changes brightness, contrast and, in RGB, saturation by up to `strength`, and the hue by `hue` of its circle."""
    images = _transform(images, key, "brightness", factor=strength / 2)
    # Of a single number the layer makes a range that only raises the contrast.
    images = _transform(images, key, "contrast", factor=(strength, strength))
    if images.shape[-1] != 3:
        return images
    images = _saturate(images, key, strength)
    return _transform(images, key, "hue", factor=2 * hue) if hue else images


def erase(images, key, probability):
    """Fills a box of 2 to 33 % of an image with gray, by the given probability."""
    # The layer's own choice, noise, takes more than twice the time: it is drawn for all pixels of the batch.
    return _transform(images, key, "erase", factor=(probability, probability), fill_value=127.5)


def randaugment(images, key, operations, magnitude):
    """Does `operations` of a list to each image, drawn for it alone (Cubuk et al., 2020, arXiv:1909.13719)."""
    batch = tf.shape(images)[0]
    for number in range(operations):
        key_of_round = _fold(key, f"randaugment {number}")
        chosen = tf.random.stateless_uniform([batch], key_of_round, 0, len(_RANDAUGMENT), tf.int32)
        # Each operation sees the images that drew it, so that every image is computed once.
        rows = tf.dynamic_partition(tf.range(batch), chosen, len(_RANDAUGMENT))
        parts = [
            _apply_to_some(operation, tf.gather(images, own), key_of_round, magnitude)
            for operation, own in zip(_RANDAUGMENT, rows, strict=True)
        ]
        images = tf.ensure_shape(tf.dynamic_stitch(rows, parts), images.shape)
    return images


def mix(images, labels, key, alpha):
    """Mixes images [B, H, W, C] and labels [B, K] with those of a permutation of the batch."""
    layer = _layer("mix", alpha=alpha)
    mixing = layer.get_random_transformation(images, seed=KeyedSeeds(_fold(key, "mix")))
    return layer.transform_images(images, mixing), layer.transform_labels(labels, mixing)


def _apply_to_some(operation, images, key, magnitude):
    # Some layers fail on no images.
    return tf.cond(tf.shape(images)[0] > 0, lambda: operation(images, key, magnitude), lambda: images)


def _saturate(images, key, strength):
    # The layer clips the saturation, which is in [0, 1], to its `value_range`; its factor f multiplies by f / (1 - f).
    factor = ((1 - strength) / (2 - strength), (1 + strength) / (2 + strength))
    return _transform(images, key, "saturation", factor=factor, value_range=(0, 1))


def _solarize(images, key, magnitude):
    """Inverts what is brighter than a drawn threshold, which sinks with the magnitude."""
    shape = [tf.shape(images)[0], 1, 1, 1]
    threshold = tf.random.stateless_uniform(shape, _fold(key, "solarize"), 255 * (1 - magnitude), 255.0)
    return tf.where(images < threshold, images, 255 - images)


# What is drawn from; the largest magnitude, 1, is about the strongest of the paper's.
_RANDAUGMENT = (
    lambda images, key, size: _transform(images, key, "auto_contrast"),
    lambda images, key, size: _transform(images, key, "brightness", factor=size / 2),
    lambda images, key, size: _transform(images, key, "contrast", factor=(size, size)),
    lambda images, key, size: _transform(images, key, "fade", factor=size),
    lambda images, key, size: _transform(images, key, "posterize", factor=(8 - max(1, round(4 * size)), 8)),
    lambda images, key, size: _transform(images, key, "rotate", factor=30 * size / _DEGREES),
    lambda images, key, size: _transform(images, key, "sharpness", factor=(0.5 - size / 2, 0.5 + size / 2)),
    lambda images, key, size: _transform(images, key, "shear", x_factor=0.3 * size, y_factor=0.3 * size),
    _solarize,
    lambda images, key, size: _transform(images, key, "shift", height_factor=0.3 * size, width_factor=0.3 * size),
)

_LAYERS = {
    "auto_contrast": keras.layers.AutoContrast,
    "brightness": keras.layers.RandomBrightness,
    "contrast": keras.layers.RandomContrast,
    "erase": keras.layers.RandomErasing,
    "fade": keras.layers.RandomColorDegeneration,
    "hue": keras.layers.RandomHue,
    "mix": keras.layers.MixUp,
    "posterize": keras.layers.RandomPosterization,
    "rotate": keras.layers.RandomRotation,
    "saturation": keras.layers.RandomSaturation,
    "sharpness": keras.layers.RandomSharpness,
    "shear": keras.layers.RandomShear,
    "shift": keras.layers.RandomTranslation,
    "zoom": keras.layers.RandomZoom,
}


def _transform(images, key, name, **options):
    layer = _layer(name, **options)
    transformation = layer.get_random_transformation(images, training=True, seed=KeyedSeeds(_fold(key, name)))
    # Interpolation may leave the range by a rounding error.
    return tf.clip_by_value(layer.transform_images(images, transformation, training=True), 0.0, 255.0)


@functools.cache
def _layer(name, **options):
    # The generator that a layer makes, and we pass over, is a variable: it must not be part of a traced function, nor
    # its seed be drawn from Python's.
    with tf.init_scope():
        options = options if name == "auto_contrast" else {**options, "seed": 0}
        return _LAYERS[name](**options, data_format="channels_last", dtype="float32")


def _fold(key, name):
    """Returns a key that follows another and a name, so that no two operations draw alike."""
    return tf.random.fold_in(key, tf.constant(zlib.crc32(name.encode()), tf.int64))
