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

    The pixels of two decoded splits are compared, and the bytes of two splits of files. Only images that agree in a
    sample of their content are compared as a whole. Returns None if nothing was compared, because only one of the two
    is decoded, or too many records would have to be read.
    """
    if not len(split) or not len(other):
        return np.array([], int)
    most = min(split.images.most_compared, other.images.most_compared)
    if split.is_decoded != other.is_decoded or len(split) + len(other) > most:
        return None
    samples, other_samples = split.images.samples(), other.images.samples()
    known, found = set(other_samples), set(samples)
    rows = [row for row, sample in enumerate(samples) if sample in known]
    digests = set(other.images.digest([row for row, sample in enumerate(other_samples) if sample in found]))
    shared = [row for row, digest in zip(rows, split.images.digest(rows), strict=True) if digest in digests]
    return np.array(shared, int)
