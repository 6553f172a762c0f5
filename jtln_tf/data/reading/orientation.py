"""Turns JPEG images upright, as their EXIF data say, in TensorFlow operations."""

import tensorflow as tf

# EXIF data have their own segment of at most 64 KiB, the first of the file or the first after the JFIF segment.
_SEARCHED_BYTES, _SEGMENT_BYTES = 256, 65536
_TO_EXIF = r"\C*?Exif\x00\x00"
# TIFF 6.0, section 2: byte order, 42, offset of the first directory; each of its entries has 12 bytes: tag, type,
# count, value. Orientation is a SHORT (type 3) with the values 1 to 8 (EXIF 2.32, section 4.6.4).
_HEADER_BYTES, _ENTRY_BYTES, _ORIENTATION, _SHORT = 8, 12, 274, 3


# TensorFlow visits each operation of a branch that is not taken; a branch of one function is a single operation.
apart = tf.function(autograph=False, experimental_attributes={"_noinline": True})


def has_exif(encoded: tf.Tensor) -> tf.Tensor:
    """Returns whether a JPEG file, a scalar string tensor, has EXIF data."""
    begin = tf.strings.substr(encoded, 0, _SEARCHED_BYTES)
    # A search is cheaper than a walk over the segments. \C matches any byte.
    return tf.strings.regex_full_match(begin, _TO_EXIF + r"\C*")


@apart
def turn_upright(pixels, encoded):
    """Turns square pixels [S, S, C] upright as their JPEG file, a scalar string tensor with EXIF data, says.

    Pixels stay as they are if the data hold no valid orientation.
    """
    orientation = _read_orientation(encoded)
    swapped = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    is_upside_down = tf.reduce_any(orientation == [3, 4, 7, 8])
    is_mirrored = tf.reduce_any(orientation == [2, 3, 6, 7])
    rows = tf.cond(is_upside_down, lambda: tf.reverse(swapped, [0]), lambda: swapped)
    return tf.cond(is_mirrored, lambda: tf.reverse(rows, [1]), lambda: rows)


def _read_orientation(encoded):
    """Returns the orientation of a file with EXIF data, 1 to 8; it is 1 if they hold no valid one."""
    begin = tf.strings.substr(encoded, 0, _SEARCHED_BYTES + _SEGMENT_BYTES)
    tiff = tf.strings.regex_replace(begin, _TO_EXIF, "", replace_global=False)
    # Zeros complete a header that is cut short; an offset beyond the end leads to the end.
    data = tf.pad(tf.cast(tf.io.decode_raw(tiff, tf.uint8), tf.int32), [[0, _HEADER_BYTES]])
    is_little = tf.strings.substr(tiff, 0, 2) == b"II"

    def number(data, place):
        first, second = data[..., place], data[..., place + 1]
        return tf.where(is_little, first + 256 * second, 256 * first + second)

    # A segment has no room for offsets of more than 16 bits.
    offset = tf.minimum(number(data, tf.where(is_little, 4, 6)), tf.size(data) - 2)
    entries = data[offset + 2 : offset + 2 + number(data, offset) * _ENTRY_BYTES]
    entries = tf.reshape(entries[: tf.size(entries) // _ENTRY_BYTES * _ENTRY_BYTES], [-1, _ENTRY_BYTES])
    tags, types, values = (number(entries, place) for place in (0, 2, 8))
    found = tf.boolean_mask(values, (tags == _ORIENTATION) & (types == _SHORT) & (values >= 1) & (values <= 8))
    return tf.concat([found, [1]], axis=0)[0]
