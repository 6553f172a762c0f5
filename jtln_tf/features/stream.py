"""Features of the images of a split, batch by batch."""

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.config import InputError
from jtln_tf.data.reading.split import Split
from jtln_tf.distribution import predict

# Entries that pass a model at once: features a few layers, images and maps of activations a backbone.
_BATCH, _IMAGES = 256, 64


def stream_features(model: keras.Model, split: Split) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the outputs of a model for the images of a split themselves, float32 [b, D], with class indices [b]."""
    for images, labels in split.batches(_BATCH if _are_features(split) else _IMAGES):
        yield extract_features(model, images, split), labels


def extract_features(model: keras.Model, images: tf.Tensor | np.ndarray, split: Split) -> np.ndarray:
    """Returns the outputs of a model for images, or activations, of a split: float32 [b, D].

    Raises `InputError` if one is not finite.
    """
    # A few layers are called directly: they are used once, and tracing them would take longer. A backbone would keep
    # what all of its layers put out until it is through, tens of gigabytes.
    call = _call if _are_features(split) else predict
    features = np.asarray(call(model, images), np.float32)
    if not np.isfinite(features).all():
        raise InputError("`backbone` must give finite features. Received: NaN or infinite ones.")
    return features


def _are_features(split):
    return len(split.item_shape) == 1


def _call(model, images):
    return model(tf.cast(images, tf.float32), training=False)
