"""Features of views of each class."""

import concurrent.futures
from collections.abc import Callable, Iterator

import keras
import numpy as np

from jtln_tf.data.reading.split import Split
from jtln_tf.features.feature_cache import FeatureCache
from jtln_tf.features.fingerprints import fingerprint_model
from jtln_tf.features.stream import extract_features
from jtln_tf.features.views import choose_views


def stream_class_features(
    model: keras.Model | None,
    split: Split,
    views_per_class: int,
    *,
    augment: Callable | None = None,
    batch_size: int = 256,
    cache: FeatureCache | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the features of views of each class batch by batch, so that memory holds only some batches of images.

    Args:
        model: Maps images [B, H, W, C] in 0..255 to features [B, D]; None gives the pixels in [0, 1].
        split: `Split`.
        views_per_class: Views of each class; without `augment`, at most as many as the class has images.
        augment: Called as `augment(images, step=n)` with the n-th batch of uint8 images, returns images; or None.
        batch_size: Images in a forward pass.
        cache: `FeatureCache` that batches are read from and written to, or None.

    Yields:
        `(features, labels)`: float32 [b, D], and the class indices [b] they belong to.
    """
    rows = choose_views(split.labels, views_per_class, fill=augment is not None, kept_views=split.views)
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    # Pixels are read as fast as a file of them would be.
    if cache and model is not None:
        fingerprint = fingerprint_model(model)
        # The number of a batch is the step of its augmentation.
        paths = [cache.path(fingerprint, [number, *batch]) for number, batch in enumerate(batches)]
        is_cached = [cache.read(path, len(batch)) is not None for path, batch in zip(paths, batches, strict=True)]
    else:
        paths, is_cached = [], [False] * len(batches)
    images = _stream_images(split, batches, np.flatnonzero(~np.array(is_cached)), augment)
    for number, batch in enumerate(batches):
        if is_cached[number]:
            features = np.array(cache.read(paths[number], len(batch)))
        else:
            features = _extract(model, next(images), split)
            if paths:
                cache.write(paths[number], features)
        yield features, split.labels[batch % len(split)]


def _stream_images(split, batches, numbers, augment):
    """Returns an iterator of the images [b, H, W, C] of the batches of the given numbers."""

    def read_images():
        # Repeated images are read once.
        used, positions = zip(*(np.unique(batches[number], return_inverse=True) for number in numbers), strict=True)
        for number, places, images in zip(numbers, positions, split.read_all(used), strict=True):
            images = images.numpy()[places]
            yield np.asarray(images if augment is None else augment(images, step=int(number)), np.float32)

    return _read_ahead(read_images())


def _read_ahead(batches):
    """Yields batches; the next one is decoded while the model works on this one."""
    # Not by tf.data: if an error ends the program, its iterator may wait for ever for a thread that runs Python.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, batches, None)
        while (images := following.result()) is not None:
            following = thread.submit(next, batches, None)
            yield images


def _extract(model, images, split):
    if model is None:
        return images.reshape(len(images), -1) / np.float32(255)
    return extract_features(model, images, split)
