"""Labelled images that are listed but not decoded yet, and how they are divided."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import numpy as np

from jtln_tf.config import InputError
from jtln_tf.data.reading.images import Images, as_images

# All runs hold out the same images, whatever their seed, so that they are tested on the same images.
_HOLD_OUT_SEED = 20170909


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Images and labels of one split.

    Attributes:
        images: `Pixels`, `Files` or `Records`. An array of texts becomes `Files`, another one `Pixels`.
        labels: int32 class indices [N].
        names: Name of each image in messages, [N].
    """

    images: Images | np.ndarray
    labels: np.ndarray
    names: np.ndarray

    def __post_init__(self):
        object.__setattr__(self, "images", as_images(self.images))

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Sequence[int]) -> "Examples":
        """Returns the examples at `indices`, in that order."""
        indices = np.asarray(indices, np.int64)
        return Examples(self.images.take(indices), self.labels[indices], self.names[indices])


def hold_out(examples: Examples, fraction: float) -> tuple[Examples, Examples]:
    """Holds out a share in [0, 1) of every class: at least one image of each class that has two or more.

    Returns `(kept, held_out)`.
    """
    held_out = []
    if fraction > 0:
        for indices in _shuffled_classes(examples.labels, _HOLD_OUT_SEED):
            count = min(max(1, round(fraction * len(indices))), len(indices) - 1)
            held_out.extend(indices[:count])
    is_held_out = np.zeros(len(examples), bool)
    is_held_out[held_out] = True
    return examples.take(np.flatnonzero(~is_held_out)), examples.take(np.flatnonzero(is_held_out))


def sample_per_class(examples: Examples, per_class: int, class_names: Sequence[str], seed: int) -> Examples:
    """Draws exactly `per_class` examples of every class; `InputError` names a class that has fewer.

    The draw for K is part of the draw for K + 1.
    """
    chosen = []
    for label, indices in enumerate(_shuffled_classes(examples.labels, seed, num_classes=len(class_names))):
        if len(indices) < per_class:
            raise InputError(
                f"`per_class` must not exceed the training images of a class. Received: {per_class}, but class "
                f"{class_names[label]!r} has {len(indices)}."
            )
        chosen.extend(indices[:per_class])
    return examples.take(np.sort(chosen))


def fingerprint(examples: Examples, class_names: Sequence[str], note: str = "") -> str:
    """Returns hex digits that change with the labelled images; it opens no file.

    They depend on the class names, on a note, and on the order, labels, names and content of the images. The content of
    a file is represented by its size. So two changes go unnoticed: of a file that keeps its name and size, and of a
    `tfds:` data set that keeps its version.
    """
    digest = hashlib.sha256(json.dumps([*class_names, *filter(None, [note])]).encode())
    digest.update(np.ascontiguousarray(examples.labels, np.int32).tobytes())
    digest.update(json.dumps([str(name) for name in examples.names]).encode())
    examples.images.fingerprint(digest)
    return digest.hexdigest()[:16]


def _shuffled_classes(labels, seed, num_classes=0):
    counts = np.bincount(labels, minlength=num_classes)
    for label, indices in enumerate(np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])):
        yield np.random.default_rng((seed, label)).permutation(indices)
