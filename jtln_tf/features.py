"""A split and a model to feature arrays. Floor 2."""

import numpy as np
import tensorflow as tf


def draw_views(split, views_per_class, augment=None):
    """Draws the same number of views of every class.

    A class with more images gives its first ones, so that repeats see the same images; one with fewer gives each of its
    images several times, which tells more only if they are augmented.

    Args:
        split: `Split`.
        views_per_class: Views of each class; without `augment`, at most as many as the class has images.
        augment: Maps uint8 images [N, H, W, C] to float32 ones, or None to take the images as they are.

    Returns:
        `(images, labels)`: images [N, H, W, C] in 0..255 and int32 class indices [N].
    """
    rows = []
    for label in np.unique(split.labels):
        own = np.flatnonzero(split.labels == label)
        rows.append(own[:views_per_class] if augment is None else np.resize(own, views_per_class))
    rows = np.concatenate(rows)
    used, positions = np.unique(rows, return_inverse=True)
    images = np.concatenate([images.numpy() for images, _ in split.take(used).dataset(256)])[positions]
    return images if augment is None else np.asarray(augment(images)), split.labels[rows]


def extract_features(model, images, batch_size=256):
    """Features of images, in order.

    Args:
        model: Maps images [B, H, W, C] in 0..255 to features [B, D], or None for the pixels themselves.
        images: Images [N, H, W, C] in 0..255.
        batch_size: Images in a forward pass.

    Returns:
        float32 [N, D].
    """
    if model is None:
        return images.reshape(len(images), -1).astype(np.float32) / 255.0
    batches = tf.data.Dataset.from_tensor_slices(images).batch(batch_size)
    return np.asarray(model.predict(batches, verbose=0), np.float32)
