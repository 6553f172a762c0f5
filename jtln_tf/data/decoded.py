"""Splits whose images were all decoded once, so that a broken image is found before training."""

import numpy as np
import tensorflow as tf

from jtln_tf.data.cache.pixels import cached_pixels
from jtln_tf.data.examples import Examples
from jtln_tf.data.reading.decoding import resize_images
from jtln_tf.data.reading.images import Pixels
from jtln_tf.data.reading.split import Split, decode_all


def open_split(examples: Examples, image_size: int, channels: int, *, crop_bottom: int = 0) -> Split:
    """Returns the `Split` of some examples; files and records are not decoded. See `load_split` for the arguments."""
    images = examples.images
    if images.is_decoded:
        images, crop_bottom = Pixels(_fit(images.values, image_size, channels)), 0
    return Split(images, examples.labels, image_size, channels, crop_bottom)


def load_split(
    examples: Examples,
    image_size: int,
    channels: int,
    *,
    crop_bottom: int = 0,
    cache: str = "memory",
    cache_dir: str = "",
) -> tuple[Split, dict[str, str]]:
    """Decodes the images of a split once.

    Args:
        examples: `Examples`.
        image_size: Side of the square images in pixels.
        channels: 1 or 3.
        crop_bottom: Rows cut off the bottom of an image file before anything else.
        cache: Where the pixels are kept: `memory`, `disk` or `none`.
        cache_dir: Folder of `disk`.

    Returns:
        A `Split`, and the reasons why images could not be decoded, by name.

    Raises:
        InputError: If the cache cannot be written.
    """
    split = encoded = open_split(examples, image_size, channels, crop_bottom=crop_bottom)
    if split.is_decoded:
        return split, {}
    if cache == "none":
        pixels, bad = None, decode_all(split)
    elif cache == "disk" and len(split):
        pixels, bad = cached_pixels(split, cache_dir)
    else:
        pixels = np.empty((len(split), image_size, image_size, channels), np.uint8)
        bad = decode_all(split, pixels.__setitem__)
    if pixels is not None:
        split = Split(pixels, examples.labels, image_size, channels)
    return split, {str(examples.names[row]): encoded.find_reason(row) for row in bad}


def _fit(pixels, image_size, channels):
    if pixels.shape[-1] != channels:
        pixels = np.repeat(pixels, channels, axis=-1) if channels == 3 else tf.image.rgb_to_grayscale(pixels).numpy()
    if pixels.shape[1:3] != (image_size, image_size) and len(pixels):
        pixels = resize_images(pixels, image_size).numpy()
    return pixels
