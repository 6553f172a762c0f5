"""Turns images upright, as their EXIF or XMP data say, in TensorFlow operations."""

import struct

import tensorflow as tf

from jtln_tf.data.reading.headers import apart, code, contains, find_chunk, read_fields, starts

# EXIF data have their own segment in a JPEG, as XMP data have.
_APP1, _EXIF = b"\xff\xe1", b"Exif\x00\x00"
_SEGMENTS_END = (0xD9, 0xDA)
# Markers without data: those of the scan, and what fills up.
_ALONE = (0x00, 0x01, *range(0xD0, 0xD9))
_HAS_EXIF, _HAS_XMP = 8, 4
_XMP_TEXT = b"tiff:Orientation"
# Where the text counts in a JPEG, PNG and WebP file. \C matches any byte.
_XMP = (
    r"\C*?(?:http://ns\.adobe\.com/xap/1\.0/\x00|iTXtXML:com\.adobe\.xmp\x00\x00|XMP \C{4})\C*?"
    r"tiff:Orientation(?:=\"|>)([0-9])\C*"
)
# TIFF 6.0, section 2: byte order, 42, offset of the first directory; each of its entries has 12 bytes: tag, type,
# count, value, or the place of a value of more than four bytes.
_HEADER_BYTES, _ENTRY_BYTES, _ORIENTATION = 8, 12, 274
_TIFF_SIGNATURE = r"(?:II(?:\*\x00|\x00\*|\+\x00)|MM(?:\x00\*|\*\x00|\x00\+))\C*"
# EXIF 2.32, section 4.6.4, wants a SHORT (type 3). Some programs write another type of number.
_TYPES = {3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I", 16: "Q"}
# Texts and bytes name no orientation.
_TEXTS = (1, 2, 7)
_UNIT_BYTES = [struct.calcsize("=" + _TYPES.get(kind, "s" * (kind in _TEXTS))) for kind in range(17)]


def _encode(order, mark, kind, value):
    """Returns the type, the byte order and the value of an entry as they stand in a file."""
    numbers = (value, 1) if len(_TYPES[kind]) == 2 else (value,)
    return struct.pack(f"{order}H", kind) + mark + struct.pack(f"{order}{_TYPES[kind]}", *numbers)


_ORDERS = (("<", b"II"), (">", b"MM"))
# By orientation, from 0, which is none.
_ARE_REVERSED = [[number in (3, 4, 6, 7), number in (2, 3, 7, 8)] for number in range(9)]
# By value first.
_VALUES = [_encode(*order, kind, value) for value in range(1, 9) for order in _ORDERS for kind in _TYPES]


def may_turn_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Returns whether a JPEG file has data in which an orientation may stand."""
    # A search is cheaper than a walk over the segments.
    return contains(encoded, _APP1)


def may_turn_png(encoded: tf.Tensor) -> tf.Tensor:
    """Returns whether a PNG file has data in which an orientation may stand."""
    return contains(encoded, b"eXIf") | contains(encoded, _XMP_TEXT)


def may_turn_webp(fields: dict[str, tf.Tensor]) -> tf.Tensor:
    """Returns whether a WebP file with these fields has data in which an orientation may stand."""
    return (fields["webp_chunk"] == code(b"VP8X")) & _has_flag(fields, _HAS_EXIF | _HAS_XMP)


def _has_flag(fields, flags):
    return tf.bitwise.bitwise_and(fields["webp_flags"], flags) > 0


@apart
def read_orientation(encoded):
    """Returns the orientation that a JPEG, PNG or WebP file, a scalar string tensor, names, 1 to 8.

    It is 1 if the file names no valid one.
    """
    fields, data = read_fields(encoded), tf.io.decode_raw(encoded, tf.uint8)
    is_webp = fields["signature_4"] == code(b"RIFF")
    tiff = tf.case(
        [
            (starts(encoded, b"\xff\xd8"), lambda: _jpeg_exif(encoded, data)),
            (is_webp & _has_flag(fields, _HAS_EXIF), lambda: _chunk(encoded, data, b"EXIF", is_png=False)),
            (is_webp, lambda: tf.constant(b"")),
        ],
        default=lambda: _chunk(encoded, data, b"eXIf", is_png=True),
    )
    orientation = _read_tiff(tf.strings.regex_replace(tiff, r"^(?:Exif\x00\x00){1,2}", ""))
    is_hidden = is_webp & ~_has_flag(fields, _HAS_XMP)
    orientation = tf.cond(orientation < 0, lambda: _read_xmp(encoded, is_hidden), lambda: orientation)
    return tf.where((orientation >= 1) & (orientation <= 8), orientation, 1)


def are_reversed(orientation: tf.Tensor) -> tf.Tensor:
    """Returns whether the rows, and the columns, of a file run against those of the upright image, bool [2]."""
    return tf.gather(_ARE_REVERSED, orientation)


def turn_upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns the pixels [S, S, C] of a square upright."""
    reversed_sides = tf.concat([are_reversed(orientation), [False]], axis=0)
    upright = tf.raw_ops.Reverse(tensor=pixels, dims=reversed_sides)
    return tf.ensure_shape(tf.transpose(upright, tf.where(orientation >= 5, [1, 0, 2], [0, 1, 2])), pixels.shape)


def _jpeg_exif(encoded, data):
    """Returns the data of the first EXIF segment before the scan, or nothing."""
    size = tf.size(data)

    def byte(place):
        return tf.cast(data[tf.minimum(place, size - 1)], tf.int32)

    def is_exif(place):
        begin = tf.strings.substr(encoded, place, 10)
        return (tf.strings.substr(begin, 0, 2) == _APP1) & (tf.strings.regex_full_match(begin, r"\C{4}Exif\x00\x00"))

    def goes_on(place):
        is_end = (byte(place) == 255) & tf.reduce_any(byte(place + 1) == _SEGMENTS_END)
        return (place + 10 < size) & ~is_end & ~is_exif(place)

    def advance(place):
        marker, is_filling = byte(place + 1), (byte(place) != 255) | (byte(place + 1) == 255)
        length = 256 * byte(place + 2) + byte(place + 3)
        return place + tf.where(is_filling, 1, tf.where(tf.reduce_any(marker == _ALONE), 2, length + 2))

    (place,) = tf.while_loop(goes_on, lambda place: (advance(place),), [tf.constant(2)])
    place = tf.minimum(place, size)
    length = 256 * byte(place + 2) + byte(place + 3) - 2
    return tf.cond(is_exif(place), lambda: tf.strings.substr(encoded, place + 4, length), lambda: tf.constant(b""))


def _chunk(encoded, data, kind, is_png):
    place = find_chunk(data, kind, is_png=is_png)
    begin = tf.strings.substr(encoded, place + (0 if is_png else 4), 4)
    length = tf.io.decode_raw(begin, tf.int32, little_endian=not is_png)[0]
    return tf.cond(
        place > 0, lambda: tf.strings.substr(encoded, place + 8, tf.maximum(length, 0)), lambda: tf.constant(b"")
    )


def _read_xmp(encoded, is_hidden):
    """Returns the orientation in the XMP data of a file, or 1."""
    found = tf.strings.regex_replace(encoded, _XMP, r"\1", replace_global=False)
    is_found = (tf.strings.length(found) == 1) & ~is_hidden
    return tf.strings.to_number(tf.where(is_found, found, "1"), tf.int32)


def _read_tiff(tiff):
    """Returns the orientation in EXIF data, 0 if it is no valid one, -1 if there is none."""
    # Zeros complete data that are cut short.
    padded = tf.strings.join([tiff, tf.constant(bytes(4 * _ENTRY_BYTES))])
    data, size = tf.cast(tf.io.decode_raw(padded, tf.uint8), tf.int64), tf.strings.length(tiff)
    is_little = tf.strings.substr(padded, 0, 2) == b"II"

    def number(data, place, size):
        digits = data[..., place : place + size]
        powers = [256**power for power in range(size)]
        return tf.reduce_sum(digits * tf.cast(tf.where(is_little, powers, powers[::-1]), tf.int64), axis=-1)

    offset = tf.cast(tf.minimum(number(data, 4, 4), tf.cast(size, tf.int64)), tf.int32)
    count = tf.cast(number(data[offset:], 0, 2), tf.int32)
    entries = data[offset + 2 : tf.minimum(offset + 2 + count * _ENTRY_BYTES, size)]
    entries = tf.reshape(entries[: tf.size(entries) // _ENTRY_BYTES * _ENTRY_BYTES], [-1, _ENTRY_BYTES])
    unit_bytes = tf.gather(tf.constant(_UNIT_BYTES, tf.int64), tf.minimum(number(entries, 2, 2), len(_UNIT_BYTES) - 1))
    num_bytes = unit_bytes * number(entries, 4, 4)
    places = tf.cast(offset + 2 + _ENTRY_BYTES * tf.range(tf.shape(entries)[0]), tf.int64)
    places_of_values = tf.where(num_bytes > 4, number(entries, 8, 4), places + 8)
    is_whole = places_of_values + num_bytes <= tf.cast(size, tf.int64)
    found = tf.where((number(entries, 0, 2) == _ORIENTATION) & (num_bytes > 0) & is_whole)[:, 0]

    def value():
        # As Pillow does, of several it takes the last.
        place, value_at = (tf.cast(one[found[-1]], tf.int32) for one in (places, places_of_values))
        unit = tf.cast(unit_bytes[found[-1]], tf.int32)
        parts = [(place + 2, 2), (0, 2), (value_at, unit)]
        here = tf.strings.join([tf.strings.substr(padded, *part) for part in parts])
        matches = tf.where(tf.constant(_VALUES) == here)[:, 0]
        return tf.cast(tf.reduce_max(tf.concat([matches // (len(_VALUES) // 8) + 1, [0]], axis=0)), tf.int32)

    is_tiff = tf.strings.regex_full_match(tiff, _TIFF_SIGNATURE)
    orientation = tf.cond(tf.size(found) > 0, value, lambda: tf.constant(-1))
    return tf.where(is_tiff | (size == 0), orientation, 0)
