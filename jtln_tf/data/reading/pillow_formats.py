"""Image files that Pillow decodes, because TensorFlow does not, or not right: TIFF, and most kinds of BMP."""

import io

import numpy as np
import tensorflow as tf
from PIL import BmpImagePlugin, Image, TiffImagePlugin

from jtln_tf.data.reading.headers import MOST_PIXELS
from jtln_tf.files import first_line

# Not `Image.open`, which warns of large images in a way that threads share.
_OPENERS = {
    b"BM": BmpImagePlugin.BmpImageFile,
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImagePlugin.TiffImageFile),
}
# Their samples have no known range.
_WITHOUT_RANGE = ("I", "F")
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
# Rows that are converted at once.
_ROWS = 256


def read_square(encoded: tf.Tensor, crop_bottom: int) -> tf.Tensor:
    """Returns the central square of an image file, uint8 [S, S, 3], on white and upright; runs Python.

    Takes a scalar string tensor; raises `tf.errors.InvalidArgumentError` with a reason if Pillow cannot read it.
    """
    square, reason = tf.numpy_function(
        lambda content: _try_to_read(content, crop_bottom), [encoded], [tf.uint8, tf.string], stateful=False
    )
    with tf.control_dependencies([tf.Assert(reason == "", [reason])]):
        return tf.ensure_shape(tf.identity(square), [None, None, 3])


def to_png(encoded: bytes) -> bytes:
    """Returns an image that only Pillow reads as a PNG file on white, upright; any other file unchanged.

    Raises `ValueError` with a reason if Pillow cannot read it.
    """
    if _find_opener(encoded) is None:
        return encoded
    try:
        with _open(encoded) as image:
            pixels = _to_rgb(image, (0, 0, *image.size))
    # A damaged file makes Pillow raise errors of many kinds.
    except Exception as error:
        raise ValueError(_explain(error)) from error
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _try_to_read(encoded, crop_bottom):
    """Returns the square and an empty text, or a pixel and the reason why there is none."""
    try:
        return _read(encoded, crop_bottom), b""
    except Exception as error:
        return np.zeros((1, 1, 3), np.uint8), _explain(error).encode()


def _explain(error):
    return first_line(error).replace("[", "(").replace("]", ")")


def _read(encoded, crop_bottom):
    with _open(encoded) as image:
        width, height = image.width, image.height - crop_bottom
        if height <= 0:
            raise ValueError("the image has no row above crop_bottom")
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return _to_rgb(image, (left, top, left + side, top + side))


def _find_opener(encoded):
    return next((opener for signature, opener in _OPENERS.items() if encoded.startswith(signature)), None)


def _open(encoded):
    """Returns a loaded image; Pillow turns a TIFF upright while it loads it."""
    opener = _find_opener(encoded)
    if opener is None:
        raise ValueError("an image must be a JPEG, PNG, WebP, GIF, BMP or TIFF file")
    image = opener(io.BytesIO(encoded))
    width, height = image.size
    if not (width > 0 < height and width * height <= MOST_PIXELS):
        raise ValueError(f"its header names {width} x {height} pixels, and 1 to {MOST_PIXELS:,} are read")
    if image.mode in _WITHOUT_RANGE:
        raise ValueError("it has samples of 32 bits, whose range is not known; save it with 8 or 16 bits")
    image.load()
    return image


def _to_rgb(image, box):
    """Returns the pixels in a box (left, top, right, bottom) on white, uint8 [H, W, 3]."""
    left, top, right, bottom = box
    pixels = np.empty((bottom - top, right - left, 3), np.uint8)
    has_alpha = image.mode in _WITH_ALPHA or "transparency" in image.info
    for start in range(top, bottom, _ROWS):
        strip = image.crop((left, start, right, min(start + _ROWS, bottom)))
        if image.mode.startswith("I;16"):
            strip = Image.fromarray((np.asarray(strip) >> 8).astype(np.uint8))
        if has_alpha:
            rgba = strip.convert("RGBA")
            strip = Image.new("RGBA", rgba.size, "white")
            strip.alpha_composite(rgba)
        pixels[start - top : start - top + strip.height] = np.asarray(strip.convert("RGB"))
    return pixels
