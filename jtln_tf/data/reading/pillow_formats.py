"""What Pillow reads for TensorFlow, in Python: orientations, animations, TIFF, and most kinds of BMP."""

import io
import warnings

import numpy as np
import tensorflow as tf
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from jtln_tf.data.reading.foreign_formats import name_foreign
from jtln_tf.data.reading.headers import MOST_PIXELS, apart
from jtln_tf.files import first_line

# The formats that an export reads in part or not at all.
_FOREIGN_OPENERS = {
    b"BM": BmpImagePlugin.BmpImageFile,
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImagePlugin.TiffImageFile),
}
# Not `Image.open`, which warns of large images in a way that threads share.
_OPENERS = {
    b"\xff\xd8": JpegImagePlugin.JpegImageFile,
    b"\x89PNG": PngImagePlugin.PngImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
    b"GIF8": GifImagePlugin.GifImageFile,
    **_FOREIGN_OPENERS,
}
# It warns of damaged EXIF data, without the name of the file, and goes on.
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
# Their samples have no known range.
_WITHOUT_RANGE = ("I", "F")
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
# What stands before the pixels of a photograph; handing over megabytes more would take a tenth of the decoding.
HEAD_BYTES = 2**17
# Rows that are converted at once.
_ROWS = 256


# Outside of a graph a Python function would get an array.
@apart
def read_image(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the first frame of an image file, uint8 [H, W, 3], on white; runs Python.

    Takes a scalar string tensor; raises `tf.errors.InvalidArgumentError` with a reason if Pillow cannot read it. A TIFF
    becomes upright.
    """
    pixels, reason = tf.numpy_function(_try_to_read, [encoded], [tf.uint8, tf.string], stateful=False)
    with tf.control_dependencies([tf.raw_ops.Assert(condition=reason == "", data=[reason])]):
        return tf.ensure_shape(tf.identity(pixels), [None, None, 3])


@apart
def find_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the orientation of an image file, a scalar string tensor, 1 to 8; runs Python.

    It is 1 if Pillow finds none or cannot read the file.
    """

    def ask(encoded):
        return tf.ensure_shape(tf.numpy_function(_try_to_find_orientation, [encoded], tf.int32, stateful=False), [])

    found = ask(tf.strings.substr(encoded, 0, HEAD_BYTES))
    is_cut = (found == 0) & (tf.strings.length(encoded) > HEAD_BYTES)
    return tf.maximum(tf.cond(is_cut, lambda: ask(encoded), lambda: found), 1)


def to_png(encoded: bytes) -> bytes:
    """Returns an image that only Pillow reads as a PNG file on white, upright; any other file unchanged.

    Raises `ValueError` with a reason if Pillow cannot read it.
    """
    if _find_opener(encoded, _FOREIGN_OPENERS) is None:
        return encoded
    try:
        pixels = _read(encoded)
    # A damaged file makes Pillow raise errors of many kinds.
    except Exception as error:
        raise ValueError(_explain(error)) from error
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _try_to_read(encoded):
    """Returns the pixels and an empty text, or a pixel and the reason why there are none."""
    try:
        return _read(encoded), b""
    except Exception as error:
        return np.zeros((1, 1, 3), np.uint8), _explain(error).encode()


def _try_to_find_orientation(encoded):
    """Returns the orientation, or 0 if the file cannot be read as far as it is there."""
    try:
        with _open(encoded) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return np.int32(0)
    # It may be a number of any type, or no number.
    return np.int32(orientation if orientation in range(1, 9) else 1)


def _explain(error):
    return first_line(error).replace("[", "(").replace("]", ")")


def _find_opener(encoded, openers):
    return next((opener for signature, opener in openers.items() if encoded.startswith(signature)), None)


def _open(encoded):
    opener = _find_opener(encoded, _OPENERS)
    if opener is None:
        raise ValueError(name_foreign(encoded) or "an image must be a JPEG, PNG, WebP, GIF, BMP or TIFF file")
    image = opener(io.BytesIO(encoded))
    width, height = image.size
    if not (width > 0 < height and width * height <= MOST_PIXELS):
        raise ValueError(f"its header names {width} x {height} pixels, and 1 to {MOST_PIXELS:,} are read")
    return image


def _read(encoded):
    """Returns the pixels on white, uint8 [H, W, 3]."""
    with _open(encoded) as image:
        if image.mode in _WITHOUT_RANGE:
            raise ValueError("it has samples of 32 bits, whose range is not known; save it with 8 or 16 bits")
        # Turns a TIFF upright.
        image.load()
        pixels = np.empty((image.height, image.width, 3), np.uint8)
        for top in range(0, image.height, _ROWS):
            bottom = min(top + _ROWS, image.height)
            pixels[top:bottom] = _to_rgb(image, image.crop((0, top, image.width, bottom)))
        return pixels


def _to_rgb(image, strip):
    """Returns the pixels of a strip of an image on white, uint8 [H, W, 3]."""
    if image.mode.startswith("I;16"):
        strip = Image.fromarray((np.asarray(strip) >> 8).astype(np.uint8))
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        rgba = strip.convert("RGBA")
        strip = Image.new("RGBA", rgba.size, "white")
        strip.alpha_composite(rgba)
    return np.asarray(strip.convert("RGB"))
