"""Splits whose images were all decoded once, so that a broken image is found before training."""

import dataclasses
import hashlib
import json
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from jtln_tf.data.cache.array_file import cached_array, find_array
from jtln_tf.data.examples import Examples
from jtln_tf.data.reading.decoding import resize_images
from jtln_tf.data.reading.images import Pixels
from jtln_tf.data.reading.split import Split, decode_all

# Must change if `decode_image` gives other pixels: what is kept of them is then made anew.
DECODER = 3


def open_split(examples: Examples, image_size: int, channels: int, *, crop_bottom: int = 0) -> Split:
    """Returns the `Split` of some examples. Pixels are resized; files and records are not decoded."""
    images = examples.images
    if images.is_decoded:
        images, crop_bottom = Pixels(_fit(images.values, image_size, channels)), 0
    return Split(images, examples.labels, image_size, channels, crop_bottom)


def load_split(
    examples: Examples, *, cache: str, cache_dir: str, is_known: Callable | None = None, **options
) -> tuple[Split, dict[str, str]]:
    """Decodes the images of a split once, and keeps the pixels as `cache` of `load_domain` says.

    Takes the options of `open_split` too. A split for which `is_known` is true is not decoded: its images were before,
    and their pixels are hardly needed. Returns a `Split`, and the reason why an image could not be decoded, by name.
    """
    split = encoded = open_split(examples, **options)
    if split.is_decoded or (is_known and is_known(split)):
        return split, {}
    shape = (len(split), split.image_size, split.image_size, split.channels)
    if cache == "none":
        pixels, bad = None, decode_all(split)
    elif cache == "disk" and len(split):
        pixels, bad = _decode_to_disk(split, shape, cache_dir)
    else:
        pixels = np.empty(shape, np.uint8)
        bad = decode_all(split, pixels.__setitem__)
    if pixels is not None:
        split = dataclasses.replace(split, images=pixels)
    return split, {str(examples.names[row]): encoded.find_reason(row) for row in bad}


def _fit(pixels, image_size, channels):
    if pixels.shape[-1] != channels:
        pixels = np.repeat(pixels, channels, axis=-1) if channels == 3 else tf.image.rgb_to_grayscale(pixels).numpy()
    if pixels.shape[1:3] != (image_size, image_size) and len(pixels):
        pixels = resize_images(pixels, image_size).numpy()
    return pixels


class _BrokenImages(Exception):
    """Raised with the positions of images that cannot be decoded."""


def _decode_to_disk(split, shape, folder):
    """Returns the pixels, mapped from a file of the cache folder, and no rows; or None and the rows of bad images."""
    digest = hashlib.sha256(json.dumps([DECODER, split.crop_bottom, shape]).encode())
    split.images.identify(digest)
    digest = digest.hexdigest()[:24]
    # Remembers which images were broken, so that finding them needs no second pass over all others.
    broken = {"folder": folder, "name": f"broken_{digest}", "shape": shape[:1], "dtype": np.bool_}
    known = find_array(**broken)
    if known is not None:
        bad = np.flatnonzero(known)
        # The disk of these images may have been away for a while.
        if len(decode_all(split.take(bad))) == len(bad):
            return None, bad

    def fill(write):
        # A broken image shifts others of its batch, and no array is kept then.
        bad = decode_all(split, lambda rows, pixels: write(rows[0], pixels))
        if len(bad):
            raise _BrokenImages(bad)

    try:
        return cached_array(folder, f"pixels_{digest}", shape, np.uint8, fill), ()
    except _BrokenImages as error:
        (bad,) = error.args
        cached_array(**broken, fill=lambda write: write(0, np.isin(np.arange(len(split)), bad)))
        return None, bad
