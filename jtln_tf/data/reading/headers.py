"""Fields of image files that are read before any pixel is decoded, in TensorFlow operations."""

import tensorflow as tf

# More would take over 2 GB while they are decoded. The largest photographs of phones in common use have 108 million.
MOST_PIXELS = 2**27
# All fields below lie within so many bytes.
_HEADER_BYTES = 64
_ONE_BYTE = [bytes([value]) for value in range(256)]

# TensorFlow visits each operation of a branch that is not taken; a branch of one function is a single operation.
apart = tf.function(autograph=False, experimental_attributes={"_noinline": True})


def has(header: tf.Tensor, signature: bytes, offset: int = 0) -> tf.Tensor:
    """Returns whether what `read_header` returned has these bytes at an offset."""
    return tf.strings.substr(header, offset, len(signature)) == signature


def contains(encoded: tf.Tensor, text: bytes) -> tf.Tensor:
    """Returns whether some bytes stand anywhere in a scalar string tensor."""
    # A regular expression takes five times as long.
    parts = tf.raw_ops.StringSplitV2(input=encoded[None], sep=tf.constant(text), maxsplit=1)
    return tf.size(parts.values) > 1


def read_header(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the first bytes of a file, a scalar string tensor; zeros follow if it ends before them."""
    return tf.strings.join([tf.strings.substr(encoded, 0, _HEADER_BYTES), tf.constant(bytes(_HEADER_BYTES))])


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


def bounded(encoded: tf.Tensor, *sides: tf.Tensor) -> tf.Tensor:
    """Returns an encoded image unchanged, after a check of its width and height."""
    width, height = (tf.cast(side, tf.int64) for side in sides)
    # Two sides of 31 bits cannot overflow.
    is_bounded = (width > 0) & (height > 0) & (width * height <= MOST_PIXELS)
    reason = ["its header names", width, "x", height, f"pixels, and 1 to {MOST_PIXELS:,} are read"]
    with tf.control_dependencies([tf.Assert(is_bounded, reason)]):
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
