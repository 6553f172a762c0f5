"""Features with the classes of their images: checks, and the images of each class."""

import numpy as np

from jtln_tf.config import InputError

# The features [N, D] of one domain's images, and their class indices [N].
Labelled = tuple[np.ndarray, np.ndarray]


def check_features(
    features: np.ndarray, name: str, count: int | None = None, dimension: int | None = None
) -> np.ndarray:
    """Returns features as an array.

    Args:
        features: [N, D].
        name: What they are called in messages.
        count: N, or None for any.
        dimension: D, or None for any.

    Raises:
        InputError: If they have another shape, or an entry is not finite.
    """
    features = np.asarray(features)
    wanted = ("N" if count is None else count, "D" if dimension is None else dimension)
    if features.ndim != 2 or any(
        size not in (have, "N", "D") for size, have in zip(wanted, features.shape, strict=True)
    ):
        raise InputError(f"`{name}` must have shape [{wanted[0]}, {wanted[1]}]. Received: {list(features.shape)}.")
    is_wrong = ~np.isfinite(features)
    if is_wrong.any():
        image, column = np.argwhere(is_wrong)[0]
        raise InputError(f"`{name}` must be finite. Received: {features[image, column]} in image {image}.")
    return features


def find_rows(labels: np.ndarray, name: str, num_classes: int | None = None) -> list[np.ndarray]:
    """Returns the positions of the images of each class.

    Args:
        labels: Class indices [N].
        name: What they are called in messages.
        num_classes: Number of classes; None is one more than the largest label.

    Raises:
        InputError: If a label is no class, or a class has no image.
    """
    labels = np.asarray(labels)
    num_classes = num_classes or int(labels.max(initial=0)) + 1
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise InputError(f"`{name}` must be from 0 to {num_classes - 1}. Received: {labels.min()} to {labels.max()}.")
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise InputError(f"`{name}` must name every class. Received: no image of class {counts.argmin()}.")
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])


def split_sides(source: Labelled, target: Labelled) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """Returns, for each side, its features [N, D] and the positions of the images of each class.

    Raises:
        InputError: If features are not finite or of two lengths, or a class has no image.
    """
    sides, dimension = [], None
    for side, (features, labels) in (("source", source), ("target", target)):
        features = check_features(features, f"{side}_features", len(labels), dimension)
        dimension = features.shape[1]
        sides.append((features, find_rows(labels, f"{side}_labels")))
    return sides
