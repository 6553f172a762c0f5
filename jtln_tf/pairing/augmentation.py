"""Augmentation of a batch of images; a function of the seed and the step alone."""

import tensorflow as tf


def augment_images(images, seed, step=0, *, random_crop=True, random_flip=False):
    """Augments images; the result depends on the arguments alone.

    Args:
        images: Images [B, H, W, C] in 0..255.
        seed: Whole number.
        step: Whole number: the same images look different in every step.
        random_crop: Shift each image by up to an eighth of its side, the border mirrored.
        random_flip: Mirror each image left to right with probability one half.

    Returns:
        float32 images [B, H, W, C].
    """
    images = tf.cast(images, tf.float32)
    key = tf.stack([tf.cast(seed, tf.int64), tf.cast(step, tf.int64)])
    if random_crop:
        images = _shift(images, key)
    if random_flip:
        batch = tf.shape(images)[0]
        flips = tf.random.stateless_uniform([batch, 1, 1, 1], key + [2**32, 0]) < 0.5
        images = tf.where(flips, tf.reverse(images, [2]), images)
    return images


def _shift(images, key):
    """Moves each image [B, H, W, C] by whole pixels, drawn evenly from an eighth of the side each way."""
    batch, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    for axis, side in ((1, height), (2, width)):
        reach = side // 8
        moves = tf.random.stateless_uniform([batch, 1], key + [axis * 2**33, 0], -reach, reach + 1, tf.int32)
        index = tf.abs(moves + tf.range(side)[None])
        mirrored = tf.where(index >= side, 2 * (side - 1) - index, index)
        images = tf.gather(images, mirrored, axis=axis, batch_dims=1)
    return images
