"""Decoded images that are kept on the disk between runs."""

import hashlib
import json

import numpy as np

from jtln_tf.data.cache.array_file import cached_array, find_array
from jtln_tf.data.reading.split import Split, decode_all

# Must change if `decode_image` gives other pixels: the files are then made anew.
_DECODER = 2


def cached_pixels(split: Split, folder: str) -> tuple[np.ndarray | None, np.ndarray]:
    """Decodes the images of a split into a file of the cache folder, or finds them there.

    Args:
        split: `Split` that is not decoded.
        folder: Cache folder.

    Returns:
        `(pixels, bad)`: uint8 pixels [N, image_size, image_size, channels], mapped from the file, and the positions of
        images that cannot be decoded. If there are any, pixels is None.

    Raises:
        InputError: If the folder cannot be written, or the disk has no room.
    """
    shape = (len(split), split.image_size, split.image_size, split.channels)
    digest = hashlib.sha256(json.dumps([_DECODER, split.crop_bottom, shape]).encode())
    split.images.identify(digest)
    digest = digest.hexdigest()[:24]
    # Remembers which images were broken, so that finding them needs no second pass over all others.
    broken = {"folder": folder, "name": f"broken_{digest}", "shape": (len(split),), "dtype": np.bool_}
    known = find_array(**broken)
    if known is not None:
        bad = np.flatnonzero(known)
        # The disk of these images may have been away for a while.
        if len(decode_all(split.take(bad))) == len(bad):
            return None, bad
    try:
        pixels = cached_array(folder, f"pixels_{digest}", shape, np.uint8, lambda write: _fill(split, write))
        return pixels, np.empty(0, np.int64)
    except _BrokenImages as error:
        (bad,) = error.args
        cached_array(**broken, fill=lambda write: write(0, np.isin(np.arange(len(split)), bad)))
        return None, bad


class _BrokenImages(Exception):
    """Raised with the positions of images that cannot be decoded."""


def _fill(split, write):
    def keep(rows, images):
        # Broken images leave gaps, so that the others keep their places.
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        for part, pixels in zip(np.split(rows, breaks), np.split(images, breaks), strict=True):
            write(part[0], pixels)

    bad = decode_all(split, keep)
    if len(bad):
        raise _BrokenImages(bad)
