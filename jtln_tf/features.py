"""A split and a model to feature arrays. Floor 2."""

import math

import numpy as np
import tensorflow as tf


def choose_views(labels, views_per_class, *, fill):
    """Chooses the same number of views of every class.

    A class with more images gives its first ones, so that repeats see the same images.

    Args:
        labels: Class indices [N].
        views_per_class: Views of each class.
        fill: Whether a class with fewer images gives each of them several times, which tells more only where they are
            augmented; else it gives each once.

    Returns:
        Positions in `labels`, class after class.
    """
    rows = [np.empty(0, np.int64)]
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        rows.append(np.resize(own, views_per_class) if fill else own[:views_per_class])
    return np.concatenate(rows)


def extract_class_features(model, split, views_per_class, augment=None, batch_size=256):
    """Features of views of every class, read in batches: memory holds one batch of images and all features.

    Args:
        model: Maps images [B, H, W, C] in 0..255 to features [B, D], or None for the pixels themselves.
        split: `Split`.
        views_per_class: Views of each class; without `augment`, at most as many as the class has images.
        augment: Called as `augment(images, step=n)` with the n-th batch of uint8 images, returns float32 ones; or None.
        batch_size: Images in a forward pass.

    Returns:
        `(features, labels)`: float32 [M, D], and the class indices [M] they belong to.
    """
    rows = choose_views(split.labels, views_per_class, fill=augment is not None)

    def read_batches():
        for number, start in enumerate(range(0, len(rows), batch_size)):
            used, positions = np.unique(rows[start : start + batch_size], return_inverse=True)
            images = next(iter(split.take(used).dataset(batch_size)))[0].numpy()[positions]
            yield np.asarray(images if augment is None else augment(images, step=number), np.float32)

    shape = (split.image_size, split.image_size, split.channels)
    if model is None:
        features = np.concatenate([batch.reshape(len(batch), -1) / np.float32(255) for batch in read_batches()])
    else:
        batches = tf.data.Dataset.from_generator(read_batches, output_signature=tf.TensorSpec((None, *shape)))
        # Keras warns of a generator that ends where it does not know the end.
        batches = batches.apply(tf.data.experimental.assert_cardinality(math.ceil(len(rows) / batch_size)))
        features = np.asarray(model.predict(batches, verbose=0), np.float32)
    return features, split.labels[rows]
