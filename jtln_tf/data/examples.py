"""Labelled images that are found but not yet decoded, and how they are divided. Uses no TensorFlow."""

import dataclasses
import hashlib
import json
import os

import numpy as np

from jtln_tf.config import InputError

# The held-out images stay the same whatever the seed of a run, so that all runs are tested on the same images.
_HOLD_OUT_SEED = 20170909


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Images and labels of one split.

    Attributes:
        images: uint8 pixels [N, H, W, C]; or [N] file paths; or [N] encoded bytes; or what the domain finds them by.
        labels: int32 class indices [N].
        names: What each image is called in messages, [N].
    """

    images: np.ndarray
    labels: np.ndarray
    names: np.ndarray

    def __len__(self):
        return len(self.labels)

    def take(self, indices):
        """Returns the examples at `indices`, in that order."""
        return Examples(self.images[indices], self.labels[indices], self.names[indices])


def hold_out(examples, fraction):
    """Splits off a share of every class (at least one image where the class has two or more).

    Args:
        examples: `Examples`.
        fraction: Share of each class to hold out, in [0, 1).

    Returns:
        `(kept, held_out)`.
    """
    held_out = []
    if fraction > 0:
        for indices in _shuffled_classes(examples.labels, _HOLD_OUT_SEED):
            count = min(max(1, round(fraction * len(indices))), len(indices) - 1)
            held_out.extend(indices[:count])
    is_held_out = np.zeros(len(examples), bool)
    is_held_out[held_out] = True
    return examples.take(np.flatnonzero(~is_held_out)), examples.take(np.flatnonzero(is_held_out))


def sample_per_class(examples, per_class, class_names, seed):
    """Draws exactly `per_class` examples of every class.

    The draw for K is part of the draw for K + 1.

    Raises:
        InputError: If a class has fewer; the message names it.
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


def fingerprint(examples, class_names, content=""):
    """Tells whether these are the same labelled images as at another time, without reading files: hex digits.

    It follows the class names, the order, the labels and names of the images, and their pixels, encoded bytes or (for
    paths) file sizes, and what else tells their content. A file that is changed and keeps its name and size goes
    unnoticed; so does an image of TensorFlow Datasets that is changed under the same version.
    """
    digest = hashlib.sha256(json.dumps([*class_names, *filter(None, [content])]).encode())
    digest.update(np.ascontiguousarray(examples.labels, np.int32).tobytes())
    digest.update(json.dumps([str(name) for name in examples.names]).encode())
    if examples.images.ndim == 4:
        digest.update(np.ascontiguousarray(examples.images).tobytes())
    elif examples.images.dtype == object and examples.images.ndim == 1:
        for image in examples.images:
            # Another length must not be made up for by the next image.
            size = os.path.getsize(image) if isinstance(image, str) else len(image)
            digest.update(f"{size},".encode())
            digest.update(b"" if isinstance(image, str) else image)
    return digest.hexdigest()[:16]


def _shuffled_classes(labels, seed, num_classes=None):
    num_classes = num_classes or (int(labels.max()) + 1 if len(labels) else 0)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels, minlength=num_classes))[:-1])
    for label in range(num_classes):
        yield np.random.default_rng((seed, label)).permutation(by_class[label])
