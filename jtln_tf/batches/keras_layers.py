"""Operations of Keras's augmentation layers, with draws that follow a key instead of a state.

Each layer's transformation is asked for with our own generator of seeds; the layers' generators are never used. Some
layers of Keras 3.15 are not used: `RandAugment` draws one choice of operations for the whole batch and ignores the
generator it is given; `RandomColorJitter` ignores it too; `Equalization` counts the colours of all images of a batch
together; `Solarization` inverts nearly all of an image at a small factor; the means of `RandomContrast` are rounded
differently in a part of a batch.
"""

import functools

import keras
import tensorflow as tf

from jtln_tf.batches.draws import KeyedSeeds

_DEGREES = 360.0


def rotate(images, draws, degrees):
    """Rotates each image by up to `degrees` either way; the border is mirrored."""
    return _transform(images, draws, "rotate", factor=degrees / _DEGREES)


def zoom(images, draws, share):
    """Shows each image up to `share` larger or smaller; the border is mirrored."""
    return _transform(images, draws, "zoom", height_factor=share)


def colour(images, draws, strength, hue):
    """Changes brightness, contrast and, in RGB, saturation by up to `strength`, and the hue by `hue` of its circle."""
    images = _transform(images, draws, "brightness", factor=strength / 2)
    images = _contrast(images, draws, strength)
    if images.shape[-1] != 3:
        return images
    images = _saturate(images, draws, strength)
    return _transform(images, draws, "hue", factor=2 * hue) if hue else images


def erase(images, draws, probability):
    """Fills a box of 2 to 33 % of an image with gray, with the given probability."""
    # Noise, the layer's default, takes more than twice as long: it is drawn for every pixel of the batch.
    return _transform(images, draws, "erase", factor=(probability, probability), fill_value=127.5)


def randaugment(images, draws, operations, magnitude):
    """Applies some operations of a list to each image, drawn for it alone (Cubuk et al., 2020, arXiv:1909.13719)."""

    def apply(operation, some, draws):
        # Some layers fail on an empty batch.
        return tf.cond(tf.shape(some)[0] > 0, lambda: operation(some, draws, magnitude), lambda: some)

    for number in range(operations):
        of_round = draws.named(f"randaugment {number}")
        chosen = of_round.uniform((), 0, len(_RANDAUGMENT), tf.int32)
        # Each operation sees only the images that drew it, so every image is computed once.
        rows = tf.dynamic_partition(tf.range(tf.shape(images)[0]), chosen, len(_RANDAUGMENT))
        choices = zip(_RANDAUGMENT, rows, strict=True)
        parts = [apply(operation, tf.gather(images, own), of_round.at(own)) for operation, own in choices]
        images = tf.ensure_shape(tf.dynamic_stitch(rows, parts), images.shape)
    return images


def draw_mixing(draws, alpha):
    """Draws what mixup mixes: for each image of the whole batch the position of its partner, and its own weight."""
    mixing = _random_transformation(_layer("mix", alpha=alpha), [1, 1, 1], draws.named("mix"))
    return mixing["permutation_order"], mixing["mix_weight"]


def _contrast(images, draws, strength):
    factor = draws.named("contrast").uniform((1, 1, 1), 1 - strength, 1 + strength)
    # In float64, because float32 sums depend on how many other images there are.
    mean = tf.cast(tf.reduce_mean(tf.cast(images, tf.float64), axis=(1, 2), keepdims=True), tf.float32)
    return tf.clip_by_value((images - mean) * factor + mean, 0.0, 255.0)


def _saturate(images, draws, strength):
    # The layer clips the saturation, which is in [0, 1], to its `value_range`; its factor f multiplies by f / (1 - f).
    factor = ((1 - strength) / (2 - strength), (1 + strength) / (2 + strength))
    return _transform(images, draws, "saturation", factor=factor, value_range=(0, 1))


def _solarize(images, draws, magnitude):
    """Inverts what is brighter than a random threshold, which sinks as the magnitude grows."""
    threshold = draws.named("solarize").uniform((1, 1, 1), 255 * (1 - magnitude), 255.0)
    return tf.where(images < threshold, images, 255 - images)


# The operations of `randaugment`; the largest magnitude, 1, is about the paper's strongest.
_RANDAUGMENT = (
    lambda images, draws, size: _transform(images, draws, "auto_contrast"),
    lambda images, draws, size: _transform(images, draws, "brightness", factor=size / 2),
    _contrast,
    lambda images, draws, size: _transform(images, draws, "fade", factor=size),
    lambda images, draws, size: _transform(images, draws, "posterize", factor=(8 - max(1, round(4 * size)), 8)),
    lambda images, draws, size: _transform(images, draws, "rotate", factor=30 * size / _DEGREES),
    lambda images, draws, size: _transform(images, draws, "sharpness", factor=(0.5 - size / 2, 0.5 + size / 2)),
    lambda images, draws, size: _transform(images, draws, "shear", x_factor=0.3 * size, y_factor=0.3 * size),
    _solarize,
    lambda images, draws, size: _transform(images, draws, "shift", height_factor=0.3 * size, width_factor=0.3 * size),
)

_LAYERS = {
    "auto_contrast": keras.layers.AutoContrast,
    "brightness": keras.layers.RandomBrightness,
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


def _transform(images, draws, name, **options):
    layer, draws = _layer(name, **options), draws.named(name)
    drawn = _random_transformation(layer, [*images.shape[1:3], 1], draws) or {}
    # The rest are sizes, which the layers need for bounding boxes only.
    own = {key: draws.of_images(value) for key, value in drawn.items() if tf.is_tensor(value) and value.shape.rank}
    # Interpolation may leave the range by a rounding error.
    return tf.clip_by_value(layer.transform_images(images, own, training=True), 0.0, 255.0)


def _random_transformation(layer, shape, draws):
    # The layer looks at nothing but the shape; in a graph these zeros are never computed.
    images = tf.zeros([draws.batch_size, *shape])
    return layer.get_random_transformation(images, training=True, seed=KeyedSeeds(draws.key))


@functools.cache
def _layer(name, **options):
    # Each layer makes a generator, a variable: it must not become part of a traced function, nor draw its seed from
    # Python's generator.
    with tf.init_scope():
        options = options if name == "auto_contrast" else {**options, "seed": 0}
        return _LAYERS[name](**options, data_format="channels_last", dtype="float32")
