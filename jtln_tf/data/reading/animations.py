"""First frames of GIF and animated WebP files in TensorFlow operations, for the graph of an export.

TensorFlow decodes all frames of an animation, gives black for transparent pixels of a GIF, and refuses opaque frames of
a WebP. So the first frame is cut out as a file of its own.
"""

import tensorflow as tf

from jtln_tf.data.reading.headers import apart, bounded, find_chunk, little, to_little

# GIF89a specification, sections 18 to 23: the screen's width, height and flags, and the colour table behind them.
_GIF_WIDTH, _GIF_HEIGHT, _GIF_FLAGS, _GIF_TABLE = 6, 8, 10, 13
_EXTENSION, _IMAGE, _TRAILER, _GRAPHIC_CONTROL = b"!,;\xf9"
_HAS_TABLE, _IS_INTERLACED = 128, 64
# An image begins with a comma, left, top, width, height and flags.
_IMAGE_BYTES = 10
_COLOURS = 256
_GRAY = bytes(value for value in range(_COLOURS) for _ in range(3))
# Behind the end of a file, for what it lacks.
_PADDING = 4 * len(_GRAY)
# Lengths of blocks that are looked at in one step.
_BLOCKS = 256
# WebP Container Specification, "Extended File Format" and "Animation". The frame's header, and its width and height in
# it; the canvas is given in the same way.
_CHUNK, _VP8X_FLAGS, _VP8X_WIDTH, _VP8X_HEIGHT = 8, 20, 24, 27
_FRAME_BYTES, _FRAME_SIZE = 16, 6
_HAS_ALPHA = 16


@apart
def decode_gif(encoded):
    """Decodes the first frame of a GIF file, a scalar string tensor, to uint8 [H, W, 3], transparent pixels white."""
    padded = tf.strings.join([encoded, tf.constant(bytes(_PADDING))])
    data, num_bytes = tf.io.decode_raw(padded, tf.uint8), tf.strings.length(encoded)
    table, start = _colour_table(padded, data[_GIF_FLAGS], tf.constant(_GIF_TABLE), tf.constant(_GRAY))
    place, transparent = _find_gif_image(data, start, num_bytes)
    left, top, width, height = (little(data, place + 1 + 2 * field, 2) for field in range(4))
    flags = data[place + _IMAGE_BYTES - 1]
    table, start = _colour_table(padded, flags, place + _IMAGE_BYTES, table)
    end = _end_of_blocks(data, start + 1)
    is_whole = (data[place] == _IMAGE) & (end <= num_bytes)
    with tf.control_dependencies([tf.Assert(is_whole, ["it breaks off before the end of its first frame"])]):
        table = _with_white(table, transparent)
    size = [to_little(width, 2), to_little(height, 2)]
    is_interlaced = to_little(flags & _IS_INTERLACED, 1)
    pixels = tf.strings.substr(padded, start, end - start)
    frame = [b"GIF89a", *size, b"\xf7\0\0", table, b",\0\0\0\0", *size, is_interlaced, pixels, b";"]
    canvas = tf.maximum([left + width, top + height], [little(data, one, 2) for one in (_GIF_WIDTH, _GIF_HEIGHT)])
    frame = bounded(tf.strings.join(frame), canvas)
    image = tf.image.decode_image(frame, channels=3, expand_animations=False)
    # The screen around a frame without transparency has the first colour.
    background = tf.where(transparent >= 0, tf.constant(255, tf.uint8), tf.io.decode_raw(table, tf.uint8)[:3])
    return _lay_on_canvas(image, background, left, top, canvas)


def _colour_table(encoded, flags, place, default):
    """Returns the 256 colours that stand at a place if the flags say so, else the default; and the place behind."""
    size = tf.where(flags & _HAS_TABLE > 0, 3 * tf.bitwise.left_shift(2, tf.cast(flags & 7, tf.int32)), 0)
    own = tf.strings.substr(encoded, place, size)
    rest = tf.strings.substr(tf.constant(_GRAY), size, 3 * _COLOURS - size)
    return tf.where(size > 0, tf.strings.join([own, rest]), default), place + size


def _with_white(table, colour):
    """Returns a table whose entry for a colour is white; unchanged for the colour -1."""
    before, behind = 3 * tf.maximum(colour, 0), 3 * (tf.maximum(colour, 0) + 1)
    parts = [tf.strings.substr(table, 0, before), b"\xff\xff\xff", tf.strings.substr(table, behind, len(_GRAY))]
    return tf.where(colour >= 0, tf.strings.join(parts), table)


def _find_gif_image(data, start, last):
    """Returns the place of the first image, or the last one, and its transparent colour, -1 if it has none."""

    def goes_on(place, in_blocks, _):
        return (place < last) & (in_blocks | ((data[place] != _IMAGE) & (data[place] != _TRAILER)))

    def advance(place, in_blocks, transparent):
        value = tf.cast(data[place], tf.int32)
        is_extension = ~in_blocks & (value == _EXTENSION)
        is_control = is_extension & (data[place + 1] == _GRAPHIC_CONTROL) & (data[place + 3] & 1 > 0)
        transparent = tf.where(is_control, tf.cast(data[place + 6], tf.int32), transparent)
        step = tf.where(in_blocks, value + 1, tf.where(is_extension, 2, 1))
        return place + step, tf.where(in_blocks, value > 0, is_extension), transparent

    place, _, transparent = tf.while_loop(goes_on, advance, (start, tf.constant(False), tf.constant(-1)))
    return tf.minimum(place, last), transparent


def _end_of_blocks(data, start):
    """Returns the place behind a list of blocks, each with its length before it; an empty one ends the list."""

    def advance(place, _):
        # Nearly all blocks have 255 bytes.
        lengths = tf.concat([data[place : place + 256 * _BLOCKS : 256], [0]], axis=0)
        skipped = tf.argmax(lengths != 255, output_type=tf.int32)
        length = tf.cast(lengths[skipped], tf.int32)
        return place + 256 * skipped + length + 1, length > 0

    return tf.while_loop(lambda _, goes_on: goes_on, advance, (start, tf.constant(True)))[0]


def _lay_on_canvas(image, background, left, top, canvas):
    """Returns the image [H, W, C] on a canvas (width, height) of a colour [C]."""
    size = tf.cast(canvas, tf.int32)
    left, top = tf.cast(left, tf.int32), tf.cast(top, tf.int32)
    shape = tf.shape(image)

    def lay():
        edges = [[top, size[1] - top - shape[0]], [left, size[0] - left - shape[1]]]
        inside = tf.pad(tf.ones(shape[:2], tf.bool), edges)
        return tf.where(inside[..., None], tf.pad(image, [*edges, [0, 0]]), background)

    return tf.cond(tf.reduce_all(shape[:2] == tf.stack([size[1], size[0]])), lambda: image, lay)


@apart
def decode_webp_animation(encoded):
    """Decodes the first frame of an animated WebP file, a scalar string tensor, to uint8 [H, W, 4]."""
    data = tf.io.decode_raw(tf.strings.join([encoded, bytes(2 * _VP8X_HEIGHT)]), tf.uint8)
    place = find_chunk(data, b"ANMF", is_png=False)
    with tf.control_dependencies([tf.Assert(place > 0, ["it has no frame"])]):
        begin = place + _CHUNK
    payload = tf.strings.substr(
        encoded, begin + _FRAME_BYTES, tf.cast(little(data, place + 4, 4), tf.int32) - _FRAME_BYTES
    )
    flags = to_little(tf.constant(_HAS_ALPHA), 4)
    chunk = tf.strings.join([b"WEBPVP8X\x0a\0\0\0", flags, tf.strings.substr(encoded, begin + _FRAME_SIZE, 6), payload])
    still = tf.strings.join([b"RIFF", to_little(tf.strings.length(chunk), 4), chunk])
    left, top = (2 * little(data, begin + field, 3) for field in (0, 3))
    canvas = 1 + tf.stack([little(data, field, 3) for field in (_VP8X_WIDTH, _VP8X_HEIGHT)])
    is_opaque = data[_VP8X_FLAGS] & _HAS_ALPHA == 0
    background = tf.where(is_opaque, tf.constant([0, 0, 0, 255], tf.uint8), 0)
    # TensorFlow 2.21 refuses 4 channels if the image has 3.
    frame = tf.image.decode_webp(still, 0)[0]
    frame = tf.pad(frame, [[0, 0], [0, 0], [0, 4 - tf.shape(frame)[-1]]], constant_values=255)
    return _lay_on_canvas(tf.ensure_shape(frame, [None, None, 4]), background, left, top, canvas)
