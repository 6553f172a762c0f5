"""Features with the classes of their images: checks, and the images of each class."""

import numpy as np

from jtln_tf.config import InputError

# The features [N, D] of one domain's images, and their class indices [N].
Labelled = tuple[np.ndarray, np.ndarray]


def check_features(features: np.ndarray, name: str, count: int | str = "N", dimension: int | str = "D") -> np.ndarray:
    """Returns features [count, dimension] as an array; a letter in place of a number allows any.

    Raises:
        InputError: If they have another shape, or an entry is not finite; `name` is what the message calls them.
    """
    features = np.asarray(features)
    fits = features.ndim == 2 and count in ("N", len(features)) and dimension in ("D", features.shape[1])
    if not fits:
        raise InputError(f"`{name}` must have shape [{count}, {dimension}]. Received: {list(features.shape)}.")
    is_wrong = ~np.isfinite(features)
    if is_wrong.any():
        image, column = np.argwhere(is_wrong)[0]
        raise InputError(f"`{name}` must be finite. Received: {features[image, column]} in image {image}.")
    return features


def find_rows(labels: np.ndarray, name: str) -> list[np.ndarray]:
    """Returns the positions of the images of each class, for class indices [N] from 0 to the largest.

    Raises:
        InputError: If a class has no image; `name` is what the message calls the labels.
    """
    labels = np.asarray(labels)
    if labels.min(initial=0) < 0:
        raise InputError(f"`{name}` must not be negative. Received: {labels.min()}.")
    counts = np.bincount(labels, minlength=1)
    if not counts.all():
        raise InputError(f"`{name}` must name every class. Received: no image of class {counts.argmin()}.")
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])


def split_sides(source: Labelled, target: Labelled) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """Returns, for each side, its features [N, D] and the positions of the images of each class.

    Raises:
        InputError: If features are not finite or of two lengths, or a class has no image.
    """
    sides, dimension = [], "D"
    for side, (features, labels) in (("source", source), ("target", target)):
        features = check_features(features, f"{side}_features", len(labels), dimension)
        dimension = features.shape[1]
        sides.append((features, find_rows(labels, f"{side}_labels")))
    return sides
