"""Labelled images that are listed but not decoded yet, and how they are divided."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence

import numpy as np

from jtln_tf.config import InputError
from jtln_tf.data.reading.content_keys import key_of_text
from jtln_tf.data.reading.images import Images, as_images

# No class gives more than this many times its share, or keeps less than this part of the share that is to stay.
_MOST_SHARES, _LEAST_REST = 2, 2 / 3


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Images and labels of one split.

    Attributes:
        images: `Pixels`, `Files` or `Records`. An array of texts becomes `Files`, another one `Pixels`.
        labels: int32 class indices [N].
        names: Name of each image in messages, [N].
        groups: Name of the group of each image, [N], empty if it has none; None if no image has one. Images of one
            group are held out together.
    """

    images: Images | np.ndarray
    labels: np.ndarray
    names: np.ndarray
    groups: np.ndarray | None = None

    def __post_init__(self):
        object.__setattr__(self, "images", as_images(self.images))

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Sequence[int]) -> "Examples":
        """Returns the examples at `indices`, in that order."""
        indices = np.asarray(indices, np.int64)
        groups = None if self.groups is None else self.groups[indices]
        return Examples(self.images.take(indices), self.labels[indices], self.names[indices], groups)


def hold_out(examples: Examples, fraction: float, purpose: str) -> tuple[Examples, Examples]:
    """Holds out about a share in [0, 1) of every class; whether an image is held out depends on its content alone.

    An image is held out if a hash of its content, keyed by the purpose, is in the lowest `fraction` of all values. So
    names, order, the seed and other images make no difference, equal images stay together, and the number that a class
    gives is its share by chance. Chance is mended only in a class that would give nothing or too much:

    - a class with two or more different images gives the one with the lowest hash;
    - it gives at most twice its share, and keeps at least two thirds of the share that is to stay (the highest hashes).

    Only in such a class can an image move when another one is added or removed. If an image or a group stands in
    several classes, keeping goes before giving. A group counts as one image, and its name is hashed.

    Args:
        examples: The labelled images.
        fraction: Share of each class.
        purpose: What is held out, `test` or `validation`: each has its own hash.

    Returns:
        `(kept, held_out)`.

    Raises:
        InputError: If no class has images of two groups.
    """
    is_held_out = np.zeros(len(examples), bool)
    if fraction > 0 and len(examples):
        units, unit_of_row = np.unique(_unit_keys(examples), return_inverse=True)
        values = _keyed_values(units, purpose)
        is_given, is_kept = values < fraction, np.zeros(len(units), bool)
        for rows in _rows_by_class(examples.labels):
            own = np.unique(unit_of_row[rows])
            own = own[np.argsort(values[own], kind="stable")]
            most = min(_most_given(len(own), fraction), len(own) - 1)
            is_given[own[: min(1, most)]] = True
            is_kept[own[most:]] = True
        if is_kept.all() and examples.groups is not None and any(examples.groups):
            raise InputError(
                "A class must have images of two groups, so that one can be held out. Received: "
                f"{len(units)} groups, each class with one. Hint: a column of another name, or test_fraction=0 and "
                "validation_fraction=0."
            )
        is_held_out = (is_given & ~is_kept)[unit_of_row]
    return examples.take(np.flatnonzero(~is_held_out)), examples.take(np.flatnonzero(is_held_out))


def sample_per_class(examples: Examples, per_class: int, class_names: Sequence[str], seed: int) -> Examples:
    """Draws exactly `per_class` examples of every class, by their content and the seed.

    The draw for K is part of the draw for K + 1, and an image that is added to a class replaces at most one that was
    drawn. Second copies of an image are drawn last. `InputError` names a class that has fewer.
    """
    chosen, keys = [], examples.images.keys()
    values = _keyed_values(keys, f"draw {seed}")
    for label, rows in enumerate(_rows_by_class(examples.labels, num_classes=len(class_names))):
        if len(rows) < per_class:
            raise InputError(
                f"`per_class` must not exceed the training images of a class. Received: {per_class}, but class "
                f"{class_names[label]!r} has {len(rows)}. Hint: a smaller test_fraction or validation_fraction helps."
            )
        chosen.extend(rows[np.lexsort((values[rows], _count_earlier(keys[rows])))[:per_class]])
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


def _rows_by_class(labels, num_classes=0):
    counts = np.bincount(labels, minlength=num_classes)
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])


def _most_given(count, fraction):
    most = min(round(_MOST_SHARES * fraction * count), math.floor(count * (1 - _LEAST_REST * (1 - fraction))))
    return max(1, most)


def _unit_keys(examples):
    """Returns a number for what is held out as a whole: the group of each image, or else its content."""
    keys = examples.images.keys()
    if examples.groups is not None:
        is_grouped = examples.groups != ""
        keys[is_grouped] = [key_of_text(name) for name in examples.groups[is_grouped]]
    return keys


def _keyed_values(keys, purpose):
    """Returns a number in [0, 1] for each key, which looks drawn by chance and depends on the key and the purpose."""
    purpose = purpose.encode()[: hashlib.blake2b.MAX_KEY_SIZE]
    digests = [hashlib.blake2b(key.tobytes(), digest_size=8, key=purpose).digest() for key in keys.astype("<u8")]
    return np.frombuffer(b"".join(digests), "<u8") / 2.0**64


def _count_earlier(keys):
    """Returns how many equal keys stand before each key."""
    order = np.argsort(keys, kind="stable")
    first = np.searchsorted(keys[order], keys[order])
    counts = np.empty(len(keys), int)
    counts[order] = np.arange(len(keys)) - first
    return counts
