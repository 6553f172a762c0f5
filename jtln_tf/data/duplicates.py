"""Images that are the same in two places, or in two splits, whatever they are called."""

import concurrent.futures
import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jtln_tf.data.reading.split import Split, decode_all


def digest_pixels(split: Split, progress: Callable | None = None) -> tuple[list[bytes | None], np.ndarray]:
    """Decodes every image of a split once, and keeps none.

    Args:
        split: `Split`.
        progress: Called with the number of images of each batch that is done, or None.

    Returns:
        `(digests, bad)`: a list of one digest for each image, equal if all pixels are equal and None if the image
        cannot be decoded; and the positions of the latter.
    """
    digests = [None] * len(split)
    with concurrent.futures.ThreadPoolExecutor() as pool:

        def keep(rows, images):
            for row, digest in zip(rows, pool.map(_digest, images), strict=True):
                digests[row] = digest
            if progress:
                progress(len(rows))

        bad = decode_all(split, keep)
    return digests, bad


def digest_files(split: Split, rows: Sequence[int]) -> list[bytes]:
    """Returns one digest for each image at `rows` of a split that is not decoded; equal if all bytes are equal."""
    return split.images.digest(rows)


def read_files(split: Split, rows: Sequence[int]) -> Iterator[bytes]:
    """Yields the bytes of the image files at `rows` of a split that is not decoded."""
    yield from split.images.contents(rows)


def find_shared(split: Split, other: Split) -> np.ndarray | None:
    """Finds the images of a split that are in another one too.

    The pixels of two decoded splits are compared, and the bytes of two splits of files. Only images that agree in a
    sample of their content are compared as a whole.

    Args:
        split: `Split` of images.
        other: Another one.

    Returns:
        Positions in `split`, ascending; or None if nothing was compared, because only one of the two is decoded, or too
        many records would have to be read.
    """
    if not len(split) or not len(other):
        return np.array([], int)
    most = min(split.images.most_compared, other.images.most_compared)
    if split.is_decoded != other.is_decoded or len(split) + len(other) > most:
        return None
    samples, other_samples = split.images.samples(), other.images.samples()
    known, found = set(other_samples), set(samples)
    rows = [row for row, sample in enumerate(samples) if sample in known]
    other_rows = [row for row, sample in enumerate(other_samples) if sample in found]
    digests = set(other.images.digest(other_rows))
    shared = [row for row, digest in zip(rows, split.images.digest(rows), strict=True) if digest in digests]
    return np.array(shared, int)


def _digest(pixels):
    return hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
