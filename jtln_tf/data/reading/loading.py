"""Examples to a split: every image is decoded once, so that a broken one is found, and kept where that is asked for."""

import dataclasses
import hashlib
import json
import os

import numpy as np
import tensorflow as tf

from jtln_tf.data.cache.array_file import cached_array, find_array
from jtln_tf.data.reading.decoding import resize_images
from jtln_tf.data.reading.split import DECODING_ERRORS, Split

CACHES = ("memory", "disk", "none")
# Another number where `decode_image` gives other pixels: files of the cache are made anew then.
_DECODER = 2
_BATCH = 64


def load_split(listing, examples, image_size, channels, cache, cache_dir, *, crop_bottom=0):
    """Decodes the images of a split once.

    Args:
        listing: `Listing` that the examples are from.
        examples: `Examples`.
        image_size: Side of the square images in pixels.
        channels: 1 or 3.
        cache: One of `CACHES`.
        cache_dir: Folder of `disk`.
        crop_bottom: Rows cut off the bottom of an image before anything else.

    Returns:
        A `Split`, and the reasons of the images that could not be decoded, by name.

    Raises:
        InputError: If the cache cannot be written.
    """
    split = encoded = open_split(listing, examples, image_size, channels, crop_bottom=crop_bottom)
    if split.is_decoded:
        return split, {}
    shape, bad = (len(examples), image_size, image_size, channels), []
    if cache == "none" or not len(examples):
        bad = decode_all(split)
        pixels = np.empty(shape, np.uint8) if cache != "none" else None
    elif cache == "memory":
        pixels = np.empty(shape, np.uint8)

        def keep(rows, images):
            pixels[rows] = images

        bad = decode_all(split, keep)
    else:
        pixels, bad = _fill_on_disk(split, shape, cache_dir, [listing.content, crop_bottom, shape])
    if pixels is not None:
        split = Split(pixels, examples.labels, image_size, channels)
    return split, {str(examples.names[row]): encoded.find_reason(row) for row in bad}


def open_split(listing, examples, image_size, channels, *, crop_bottom=0):
    """Returns the `Split` of some examples, not decoded yet where they are files; the arguments are of `load_split`."""
    if listing.fetch is not None:
        examples = dataclasses.replace(examples, images=np.array([*listing.fetch(examples)], object))
    if examples.images.ndim == 4:
        return Split(_fit(examples.images, image_size, channels), examples.labels, image_size, channels)
    return Split(examples.images, examples.labels, image_size, channels, listing.reader, crop_bottom)


def _fill_on_disk(split, shape, cache_dir, dependencies):
    """Returns pixels in a file and no rows; or None, and the rows of the images that cannot be decoded."""
    digest = _identify(split.images, dependencies)
    # There are no pixels where one is broken: so that not all are decoded again to find it, it is remembered.
    broken = {"folder": cache_dir, "name": f"broken_{digest}", "shape": (len(split),), "dtype": np.bool_}
    known = find_array(**broken)
    if known is not None:
        rows = np.flatnonzero(known)
        # It may have been a disk that was away.
        if len(decode_all(split.take(rows))) == len(rows):
            return None, rows
    try:
        return cached_array(cache_dir, f"pixels_{digest}", shape, np.uint8, lambda write: _fill(split, write)), []
    except _BrokenImages as error:
        is_broken = np.isin(np.arange(len(split)), error.rows)
        cached_array(**broken, fill=lambda write: write(0, is_broken))
        return None, error.rows


class _BrokenImages(Exception):
    def __init__(self, rows):
        self.rows = rows


def _fill(split, write):
    def keep(rows, images):
        # An image that cannot be decoded is left out: the others keep their places.
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        for part, pixels in zip(np.split(rows, breaks), np.split(images, breaks), strict=True):
            write(part[0], pixels)

    bad = decode_all(split, keep)
    if len(bad):
        raise _BrokenImages(bad)


def decode_all(split, keep=None):
    """Decodes every image of a split.

    Args:
        split: `Split`; of one that is decoded already all images are a batch.
        keep: Called with the positions of each batch, ascending, and its images [b, H, W, C]; or None.

    Returns:
        Positions of the images that cannot be decoded.
    """
    if split.is_decoded:
        if keep:
            keep(np.arange(len(split)), split.images)
        return np.empty(0, np.int64)
    bad = []
    for start in range(0, len(split), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(split)))
        try:
            images = split.decode(rows)
        except DECODING_ERRORS:
            # One broken image stops its whole batch.
            decoded = {row: image for row in rows if (image := _decode_one(split, row)) is not None}
            bad.extend(set(rows) - set(decoded))
            rows, images = np.array(list(decoded), np.int64), np.array(list(decoded.values()), np.uint8)
        # What is not kept need not leave TensorFlow.
        if keep and len(rows):
            keep(rows, np.asarray(images))
    return np.sort(np.array(bad, np.int64))


def _decode_one(split, row):
    try:
        return split.decode([row])[0].numpy()
    except DECODING_ERRORS:
        return None


def _fit(pixels, image_size, channels):
    if pixels.shape[-1] != channels:
        pixels = np.repeat(pixels, channels, axis=-1) if channels == 3 else tf.image.rgb_to_grayscale(pixels).numpy()
    if pixels.shape[1:3] != (image_size, image_size) and len(pixels):
        pixels = resize_images(pixels, image_size).numpy()
    return pixels


def _identify(images, dependencies):
    """Returns hex digits that follow the content of the images, as far as it is known without reading files."""
    digest = hashlib.sha256(json.dumps([_DECODER, *dependencies]).encode())
    for image in images:
        if isinstance(image, str):
            digest.update(json.dumps([image, *_size_and_time(image)]).encode())
        elif isinstance(image, bytes):
            digest.update(hashlib.sha256(image).digest())
        else:
            digest.update(f"{image},".encode())
    return digest.hexdigest()[:24]


def _size_and_time(path):
    try:
        status = os.stat(path)
    except OSError:
        # A link to nothing: decoding finds that.
        return ()
    return status.st_size, status.st_mtime_ns
