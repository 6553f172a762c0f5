"""Augmentation of a batch by a policy; a function of the seed and the step alone."""

import tensorflow as tf

from jtln_tf.batches.keras_layers import colour, erase, mix, randaugment, rotate, zoom
from jtln_tf.config import parse_augmentation


# AutoGraph would read through the whole of Keras's layers, for seconds, and find nothing to convert.
@tf.autograph.experimental.do_not_convert
def augment_images(images, seed, step=0, *, policy=("crop",)):
    """Augments images; the result depends on the arguments alone, and each image has draws of its own.

    Args:
        images: Images [B, H, W, C] in 0..255, gray or RGB.
        seed: Whole number.
        step: Whole number: the same images look different in every step.
        policy: Texts `NAME[:NUMBER...]` that `parse_augmentation` reads: what is done, in this order. `mixup` is left
            out here, as it changes labels: see `mix_images`.

    Returns:
        Images [B, H, W, C] in 0..255: of the type given where pixels are but moved (`crop`, `flip`), else float32.

    Raises:
        InputError: If the policy does not fit.
    """
    images, key = tf.convert_to_tensor(images), _key(seed, step)
    for name, numbers in parse_augmentation(policy).operations:
        if name not in _MOVES:
            images = tf.cast(images, tf.float32)
        images = _OPERATIONS[name](images, key, *numbers)
    return images


@tf.autograph.experimental.do_not_convert
def mix_images(images, labels, num_classes, seed, step=0, *, alpha):
    """Mixes each image, and its label, with another one of the batch (Zhang et al., 2018, arXiv:1710.09412).

    Args:
        images: Images [B, H, W, C].
        labels: Class indices [B].
        num_classes: Classes, K.
        seed: Whole number.
        step: Whole number.
        alpha: The weight of each image is drawn from Beta(alpha, alpha).

    Returns:
        float32 images [B, H, W, C] and the probabilities of their classes, float32 [B, K].
    """
    return mix(tf.cast(images, tf.float32), tf.one_hot(labels, num_classes), _key(seed, step), alpha)


def _key(seed, step):
    return tf.stack([tf.cast(seed, tf.int64), tf.cast(step, tf.int64)])


def _crop(images, key):
    """Moves each image [B, H, W, C] by whole pixels, drawn evenly from an eighth of the side each way."""
    batch, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    for axis, side in ((1, height), (2, width)):
        reach = side // 8
        moves = tf.random.stateless_uniform([batch, 1], key + [axis * 2**33, 0], -reach, reach + 1, tf.int32)
        index = tf.abs(moves + tf.range(side)[None])
        mirrored = tf.where(index >= side, 2 * (side - 1) - index, index)
        images = tf.gather(images, mirrored, axis=axis, batch_dims=1)
    return images


def _flip(images, key):
    columns = tf.range(images.shape[2])
    flips = tf.random.stateless_uniform([tf.shape(images)[0], 1], key + [2**32, 0]) < 0.5
    # To gather the columns takes a third of the time of tf.reverse.
    return tf.gather(images, tf.where(flips, columns[::-1], columns), axis=2, batch_dims=1)


_MOVES = ("crop", "flip")
_OPERATIONS = {
    "crop": _crop,
    "flip": _flip,
    "rotate": rotate,
    "zoom": zoom,
    "colour": colour,
    "erase": erase,
    "randaugment": randaugment,
}
