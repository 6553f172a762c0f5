"""Images that are the same in two places, or in two splits, whatever they are called."""

import hashlib
from collections.abc import Callable

import numpy as np

from jtln_tf.data.reading.split import Split, decode_all


def digest_pixels(split: Split, progress: Callable | None = None) -> tuple[list[bytes | None], np.ndarray]:
    """Decodes every image of a split once, and keeps none.

    Returns a digest of the pixels of each image, None if it cannot be decoded, and the positions of the latter.
    `progress` is called with the number of images of each batch that was decoded.
    """
    digests = [None] * len(split)

    def keep(rows, images):
        for row, pixels in zip(rows, images, strict=True):
            digests[row] = hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
        if progress:
            progress(len(rows))

    return digests, decode_all(split, keep)


def find_shared(split: Split, other: Split) -> np.ndarray | None:
    """Returns the positions, ascending, of the images of a split that are in another one too.

    The bytes of files and records are compared, and the pixels of arrays, or of two decoded splits if records would
    take too long to read. Only images with the same key are compared as a whole. Returns None if
    nothing was compared, because there are arrays on one side only, or too many records.
    """
    if not len(split) or not len(other):
        return np.array([], int)
    pairs = ((split.origin, other.origin), (split.images, other.images))
    found = next((pair for pair in pairs if _can_compare(*pair)), None)
    return found and _find_shared(*found)


def _can_compare(images, others):
    most = min(images.most_compared, others.most_compared)
    return images.is_decoded == others.is_decoded and len(images) + len(others) <= most


def _find_shared(images, others):
    # Large images with the same key may still differ, where it does not look.
    keys, other_keys = images.keys(), others.keys()
    rows = np.flatnonzero(np.isin(keys, other_keys))
    digests = set(others.digest(np.flatnonzero(np.isin(other_keys, keys))))
    shared = [row for row, digest in zip(rows, images.digest(rows), strict=True) if digest in digests]
    return np.array(shared, int)
