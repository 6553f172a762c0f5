"""Features with the classes of their images."""

from collections.abc import Iterable

import numpy as np

from jtln_tf.config import InputError

# The features [N, D] of one domain's images, and their class indices [N].
Labelled = tuple[np.ndarray, np.ndarray]


def split_classes(images: Labelled) -> list[np.ndarray]:
    """Returns the features [k, D] of the k images of each class, for class indices from 0 to the largest.

    Raises:
        InputError: If a class has no image.
    """
    features, labels = map(np.asarray, images)
    counts = np.bincount(labels)
    if not counts.all():
        raise InputError(f"The labels must name every class. Received: no image of class {counts.argmin()}.")
    return np.split(features[np.argsort(labels, kind="stable")], np.cumsum(counts)[:-1])


def join_batches(batches: Iterable[Labelled]) -> Labelled:
    """Returns batches of features and class indices as one."""
    features, labels = zip(*batches, strict=True)
    return np.concatenate(features), np.concatenate(labels)
