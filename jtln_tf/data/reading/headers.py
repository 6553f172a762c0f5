"""Fields of image files that are read before any pixel is decoded, in TensorFlow operations."""

import numpy as np
import tensorflow as tf

# More would take over 2 GB while they are decoded. The largest photographs of phones in common use have 108 million.
MOST_PIXELS = 2**27
# Place, number of bytes and byte order of the fields that `read_fields` reads. A RIFF file names its kind (WEBP) and
# its first chunk (VP8, VP8L or VP8X); each kind of chunk holds the size in another way (WebP Container Specification).
# PNG: ISO/IEC 15948, section 11.2.2. BMP: a header for the file, then one that begins with its own size.
_FIELDS = {
    "signature_2": (0, 2, "big"),
    "signature_4": (0, 4, "big"),
    "signature_8": (0, 8, "big"),
    "riff_kind": (8, 4, "big"),
    "webp_chunk": (12, 4, "big"),
    "webp_flags": (20, 1, "little"),
    "vp8_width": (26, 2, "little"),
    "vp8_height": (28, 2, "little"),
    "vp8l_sides": (21, 4, "little"),
    "vp8x_width": (24, 3, "little"),
    "vp8x_height": (27, 3, "little"),
    "png_width": (16, 4, "big"),
    "png_height": (20, 4, "big"),
    "png_bit_depth": (24, 1, "big"),
    "bmp_first_pixel": (10, 4, "little"),
    "bmp_header_bytes": (14, 4, "little"),
    "bmp_width": (18, 4, "little"),
    "bmp_height": (22, 4, "little"),
    "bmp_bit_depth": (28, 2, "little"),
    "bmp_compression": (30, 4, "little"),
}
# All of them lie within so many bytes.
_HEADER_BYTES = 40
_MOST_BYTES = 8
_ONE_BYTE = [bytes([value]) for value in range(256)]

# TensorFlow visits each operation of a branch that is not taken; a branch of one function is a single operation.
apart = tf.function(autograph=False, experimental_attributes={"_noinline": True})


def starts(encoded: tf.Tensor, signature: bytes) -> tf.Tensor:
    """Returns whether a scalar string tensor begins with these bytes."""
    return tf.strings.substr(encoded, 0, len(signature)) == signature


def code(text: bytes) -> int:
    """Returns the number that a field of this content has."""
    return int.from_bytes(text, "big", signed=len(text) == _MOST_BYTES)


def contains(encoded: tf.Tensor, text: bytes) -> tf.Tensor:
    """Returns whether some bytes stand anywhere in a scalar string tensor."""
    # A regular expression takes five times as long.
    parts = tf.raw_ops.StringSplitV2(input=encoded[None], sep=tf.constant(text), maxsplit=1)
    return tf.size(parts.values) > 1


def read_fields(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the fields of the header of a file, scalars of int64 by name; what it lacks at its end is zero.

    All fields of all formats are read at once: a graph of fewer operations starts faster.
    """
    padded = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER_BYTES), tf.constant(bytes(_HEADER_BYTES))])
    data = tf.cast(tf.io.decode_raw(padded, tf.uint8), tf.int64)
    weights = np.zeros((len(_FIELDS), _MOST_BYTES), np.int64)
    for row, (_, size, order) in zip(weights, _FIELDS.values(), strict=True):
        row[:size] = [256**power for power in range(size)][:: 1 if order == "little" else -1]
    places = np.array([[place] for place, *_ in _FIELDS.values()]) + np.arange(_MOST_BYTES)
    values = tf.reduce_sum(tf.gather(data, places) * weights, axis=1)
    return dict(zip(_FIELDS, tf.unstack(values), strict=True))


def little(data: tf.Tensor, place: int | tf.Tensor, size: int) -> tf.Tensor:
    """Returns the number, int64, that `size` bytes [N] at a place hold, the lowest first."""
    return tf.reduce_sum(tf.cast(data[place : place + size], tf.int64) * [256**power for power in range(size)])


def big(data: tf.Tensor, place: int | tf.Tensor, size: int) -> tf.Tensor:
    """Returns the number, int64, that `size` bytes [N] at a place hold, the highest first."""
    return tf.reduce_sum(tf.cast(data[place : place + size], tf.int64) * [256**power for power in range(size)][::-1])


def to_little(number: tf.Tensor, size: int) -> tf.Tensor:
    """Returns a number as a string of `size` bytes, the lowest first."""
    digits = tf.cast(number, tf.int64) // [256**power for power in range(size)] % 256
    return tf.strings.reduce_join(tf.gather(_ONE_BYTE, digits))


def bounded(encoded: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns an encoded image unchanged, after a check of its width and height, integers [2]."""
    # A product of integers could overflow.
    num_pixels = tf.reduce_prod(tf.cast(size, tf.float64))
    is_bounded = (tf.reduce_min(size) > 0) & (num_pixels <= MOST_PIXELS)
    reason = ["its header names", size[0], "x", size[1], f"pixels, and 1 to {MOST_PIXELS:,} are read"]
    # Not tf.Assert, which adds a branch of its own.
    with tf.control_dependencies([tf.raw_ops.Assert(condition=is_bounded, data=reason)]):
        return tf.identity(encoded)


def find_chunk(data: tf.Tensor, kind: bytes, *, is_png: bool) -> tf.Tensor:
    """Returns the place, int32, of the first chunk of a kind in the bytes [N] of a PNG or RIFF file; 0 if it has none.

    A chunk of a PNG file is its length, kind, data and a checksum; of a RIFF file its kind, length and data, of which
    there is an even number of bytes.
    """
    wanted, read = tf.io.decode_raw(kind, tf.uint8), big if is_png else little
    length_at, kind_at = (0, 4) if is_png else (4, 0)
    data = tf.pad(data, [[0, 12]])

    def is_here(place):
        return tf.reduce_all(data[place + kind_at : place + kind_at + 4] == wanted)

    def advance(place):
        length = read(data, place + length_at, 4)
        step = length + 12 if is_png else length + length % 2 + 8
        return tf.cast(tf.minimum(tf.cast(place, tf.int64) + step, tf.size(data, tf.int64) - 12), tf.int32)

    def goes_on(place):
        return (place + 12 < tf.size(data)) & ~is_here(place)

    (place,) = tf.while_loop(goes_on, lambda place: (advance(place),), [tf.constant(8 if is_png else 12)])
    return tf.where(is_here(place), place, 0)
