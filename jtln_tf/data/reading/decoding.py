"""Decodes image files to square pixels in TensorFlow operations, which training, evaluation and serving share."""

import re

import numpy as np
import tensorflow as tf

from jtln_tf.data.reading.animations import decode_gif, decode_webp_animation, decode_webp_still
from jtln_tf.data.reading.headers import apart, big, bounded, has, little, read_header
from jtln_tf.data.reading.orientation import (
    are_reversed,
    find_orientation,
    may_turn_jpeg,
    may_turn_png,
    may_turn_webp,
    turn_upright,
)
from jtln_tf.data.reading.pillow_formats import read_square

_JPEG_SIGNATURE = b"\xff\xd8\xff"
# libjpeg can divide the sides by these while it decodes, which saves most of the work.
_JPEG_RATIOS = (1, 2, 4, 8)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Places of fields of the IHDR chunk, which is the first one (ISO/IEC 15948, section 11.2.2).
_PNG_WIDTH, _PNG_HEIGHT, _PNG_BIT_DEPTH = 16, 20, 24
_GIF_SIGNATURE = b"GIF8"
_BMP_SIGNATURE = b"BM"
# The last field of the file header is where the pixels start; the next header begins with its own size.
_BMP_PIXEL_OFFSET, _BMP_HEADER, _BMP_WIDTH, _BMP_HEIGHT, _BMP_BIT_DEPTH, _BMP_COMPRESSION = 10, 14, 18, 22, 28, 30
_BMP_HEADER_BYTES = 40
# RIFF, the size of the file, WEBP, then a chunk. An animation has a VP8X chunk with this bit of its flags set (WebP
# Container Specification, "Extended File Format"). Each kind of chunk holds the size in another way.
_RIFF_SIGNATURE, _WEBP_SIGNATURE, _WEBP_OFFSET = b"RIFF", b"WEBP", 8
_WEBP_EXTENDED, _WEBP_LOSSLESS, _WEBP_CHUNK, _WEBP_FLAGS, _WEBP_ANIMATED = b"VP8X", b"VP8L", 12, 20, 2
# Images of more pixels are blended, or made gray, row by row: that takes four times their memory.
_MANY_PIXELS = 2**22


def decode_image(
    encoded: tf.Tensor, image_size: int, channels: int, crop_bottom: int = 0, *, portable: bool = False
) -> tf.Tensor:
    """Decodes one image file (the first frame) to a square of pixels.

    The central square is resized to `image_size`: halved, by the mean of 2x2 pixels, while it is at least twice as
    large, then interpolated bilinearly. A JPEG is cut and halved while it is decoded. JPEG, PNG and WebP images are
    turned upright as their EXIF or XMP data say. Gray becomes RGB by repetition and RGB becomes gray by luma.
    Transparent images get a white background. 16-bit samples are reduced to 8 bits; 1-, 2- and 4-bit gray is spread
    over 0..255.

    Args:
        encoded: Scalar string tensor, the bytes of the file: JPEG, PNG, WebP, GIF, BMP or TIFF.
        image_size: Side of the result in pixels.
        channels: 1 (gray) or 3 (RGB).
        crop_bottom: Rows of the file's own pixels that are first cut off at the bottom.
        portable: Use only operations that can be saved. TIFF images, and BMP images but uncompressed ones of 8 or 24
            bits a pixel, are refused then; otherwise Pillow decodes them.

    Returns:
        uint8 tensor [image_size, image_size, channels]; `tf.errors.InvalidArgumentError` is raised if the bytes are no
        complete image, it has more than `headers.MOST_PIXELS`, or no row of it is left.
    """
    header = read_header(encoded)
    is_jpeg = has(header, _JPEG_SIGNATURE)
    square, orientation = tf.cond(
        is_jpeg,
        lambda: _decode_jpeg(encoded, image_size, crop_bottom),
        lambda: _decode_other(encoded, header, crop_bottom, portable),
    )
    square.set_shape([None, None, 3])
    if channels == 1:
        square = _by_rows(tf.image.rgb_to_grayscale, square)
    pixels = _resize(square[None], image_size)[0]
    return tf.cond(orientation > 1, lambda: turn_upright(pixels, orientation), lambda: pixels)


def explain_error(error: tf.errors.OpError) -> str:
    """Returns TensorFlow's reason for an error in one line, without the place in its graph."""
    message = error.message.partition("\n\t [[")[0].strip().splitlines()[-1].split("}} ")[-1].split(" [Op:")[0]
    checked = re.search(r"assertion failed: \[(.*)\]", message)
    return checked[1].replace("] [", " ") if checked else message


def resize_images(images: np.ndarray, image_size: int) -> tf.Tensor:
    """Resizes uint8 images [N, H, W, C] to [N, image_size, image_size, C] by the same rule as `decode_image`."""
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return _resize(images[:, top : top + side, left : left + side], image_size)


def _decode_jpeg(encoded, image_size, crop_bottom):
    """Returns a square of at least twice the wanted size, uint8 [S, S, 3], or the whole one; and the orientation."""
    whole = tf.image.extract_jpeg_shape(encoded)
    encoded, size = bounded(encoded, whole[1], whole[0]), whole[:2] - [crop_bottom, 0]
    with tf.control_dependencies([_assert_rows(size[0], crop_bottom)]):
        side = tf.reduce_min(size)
    orientation = find_orientation(encoded, may_turn_jpeg(encoded))
    square = tf.cond(
        side >= _JPEG_RATIOS[1] * image_size,
        lambda: _decode_scaled_jpeg(encoded, size, orientation, image_size),
        lambda: _decode_jpeg_square(encoded, size, orientation, 1),
    )
    return square, orientation


@apart
def _decode_scaled_jpeg(encoded, size, orientation, image_size):
    number = tf.reduce_sum(tf.cast(tf.reduce_min(size) >= [ratio * image_size for ratio in _JPEG_RATIOS], tf.int32))

    def decode(ratio):
        return lambda: _decode_jpeg_square(encoded, size // ratio, orientation, ratio)

    return tf.switch_case(number - 1, [decode(ratio) for ratio in _JPEG_RATIOS])


def _decode_jpeg_square(encoded, size, orientation, ratio):
    begin, side = _place_square(size, orientation)
    window = tf.concat([begin, [side, side]], axis=0)
    return tf.image.decode_and_crop_jpeg(encoded, window, channels=3, ratio=ratio)


def _place_square(size, orientation):
    """Returns the first row and column, and the side, of the square that is central once the image is upright."""
    side = tf.reduce_min(size)
    # Of an odd margin the larger part is at the right and at the bottom.
    return (size - side + tf.cast(are_reversed(orientation), tf.int32)) // 2, side


def _assert_rows(rows, crop_bottom):
    return tf.Assert(rows > 0, ["the image has no row above crop_bottom"]) if crop_bottom else tf.no_op()


@apart
def _decode_other(encoded, header, crop_bottom, portable):
    """Returns the central square, uint8 [S, S, 3], and the orientation."""
    numbers = tf.io.decode_raw(header, tf.uint8)
    is_bmp = has(header, _BMP_SIGNATURE)

    def read_png():
        rgba = tf.image.decode_png(bounded(encoded, big(numbers, _PNG_WIDTH, 4), big(numbers, _PNG_HEIGHT, 4)), 4)
        orientation = find_orientation(encoded, may_turn_png(encoded))
        square = _central_square(rgba, crop_bottom, orientation)
        return _drop_png_alpha(square, tf.cast(numbers[_PNG_BIT_DEPTH], tf.int32)), orientation

    def read_webp():
        orientation = find_orientation(encoded, may_turn_webp(header))
        rgba = _central_square(_decode_webp(encoded, header, numbers), crop_bottom, orientation)
        return _lay_on_white(rgba), orientation

    return tf.case(
        [
            (has(header, _PNG_SIGNATURE), read_png),
            (is_bmp & _is_plain_bmp(numbers), lambda: (_central_square(_decode_bmp(encoded, numbers), crop_bottom), 1)),
            (has(header, _RIFF_SIGNATURE) & has(header, _WEBP_SIGNATURE, _WEBP_OFFSET), read_webp),
            (has(header, _GIF_SIGNATURE), lambda: (_central_square(decode_gif(encoded), crop_bottom), 1)),
        ],
        default=lambda: (_refuse(is_bmp) if portable else read_square(encoded, crop_bottom), 1),
    )


def _refuse(is_bmp):
    what = tf.where(is_bmp, "a BMP image must be uncompressed, of 8 or 24 bits a pixel; a PNG image is safe", "")
    what = tf.where(is_bmp, what, "an image must be a JPEG, PNG, WebP, GIF or BMP file")
    with tf.control_dependencies([tf.Assert(False, [what])]):
        return tf.zeros([1, 1, 3], tf.uint8)


def _central_square(image, crop_bottom, orientation=1):
    size = tf.shape(image)[:2] - [crop_bottom, 0]
    with tf.control_dependencies([_assert_rows(size[0], crop_bottom)]):
        begin, side = _place_square(size, orientation)
    top, left = begin[0], begin[1]
    return image[top : top + side, left : left + side]


def _decode_webp(encoded, header, numbers):
    is_extended = has(header, _WEBP_EXTENDED, _WEBP_CHUNK)
    fields = {_WEBP_EXTENDED: (24, 27, 3), b"VP8 ": (26, 28, 2)}
    extended, lossy = ([little(numbers, at, size) for at in places] for *places, size in fields.values())
    bits = little(numbers, 21, 4)
    lossless = [1 + bits % 2**14, 1 + bits // 2**14 % 2**14]
    plain = tf.where(
        has(header, _WEBP_LOSSLESS, _WEBP_CHUNK), lossless, tf.bitwise.bitwise_and(tf.stack(lossy), 2**14 - 1)
    )
    size = tf.where(is_extended, 1 + tf.stack(extended), plain)
    encoded = bounded(encoded, size[0], size[1])
    is_animated = is_extended & (numbers[_WEBP_FLAGS] & _WEBP_ANIMATED > 0)
    return tf.cond(is_animated, lambda: decode_webp_animation(encoded), lambda: decode_webp_still(encoded))


def _drop_png_alpha(rgba, bit_depth):
    # TensorFlow gives an opaque image of 1, 2 or 4 bits the largest sample of that depth as alpha: 1, 3 or 15.
    opaque_alpha = tf.cast(tf.bitwise.left_shift(1, bit_depth) - 1, tf.uint8)
    is_opaque_low_depth = (bit_depth < 8) & tf.reduce_all(rgba[..., 3] == opaque_alpha)
    return tf.cond(is_opaque_low_depth, lambda: rgba[..., :3], lambda: _lay_on_white(rgba))


def _lay_on_white(rgba):
    # Most images are opaque, and blending takes four times the memory.
    is_opaque = tf.reduce_all(rgba[..., 3] == 255)
    return tf.cond(is_opaque, lambda: rgba[..., :3], lambda: _by_rows(_blend_with_white, rgba))


def _blend_with_white(rgba):
    rgb, alpha = tf.cast(rgba[..., :3], tf.float32), tf.cast(rgba[..., 3:], tf.float32) / 255.0
    return tf.cast(tf.round(rgb * alpha + 255.0 * (1.0 - alpha)), tf.uint8)


def _by_rows(function, image):
    """Applies a function of pixels to an image [H, W, C], row by row if it is so large that memory matters."""
    shape = tf.shape(image)
    return tf.cond(
        shape[0] * shape[1] > _MANY_PIXELS,
        lambda: tf.map_fn(function, image, parallel_iterations=1),
        lambda: function(image),
    )


def _is_plain_bmp(numbers):
    """Returns whether TensorFlow decodes a BMP image right: no bit masks, no compression, no older header."""
    bit_depth = little(numbers, _BMP_BIT_DEPTH, 2)
    is_known = (little(numbers, _BMP_HEADER, 4) >= _BMP_HEADER_BYTES) & (little(numbers, _BMP_COMPRESSION, 4) == 0)
    return is_known & ((bit_depth == 8) | (bit_depth == 24))


def _decode_bmp(encoded, numbers):
    height = tf.cast(tf.bitcast(tf.cast(little(numbers, _BMP_HEIGHT, 4), tf.uint32), tf.int32), tf.int64)
    encoded = bounded(encoded, little(numbers, _BMP_WIDTH, 4), tf.abs(height))
    pixels = tf.image.decode_image(encoded, channels=3, expand_animations=False)
    is_palette = little(numbers, _BMP_BIT_DEPTH, 2) == 8
    return tf.cond(is_palette, lambda: _look_up_bmp_palette(encoded, numbers, pixels[..., 0]), lambda: pixels)


def _look_up_bmp_palette(encoded, numbers, indices):
    # TensorFlow returns the indices as gray samples.
    first_pixel = tf.cast(little(numbers, _BMP_PIXEL_OFFSET, 4), tf.int32)
    begin = _BMP_HEADER + tf.cast(little(numbers, _BMP_HEADER, 4), tf.int32)
    blue_green_red = tf.io.decode_raw(tf.strings.substr(encoded, begin, first_pixel - begin), tf.uint8)
    palette = tf.reshape(blue_green_red[: tf.size(blue_green_red) // 4 * 4], [-1, 4])[:, 2::-1]
    return tf.gather(palette, tf.cast(indices, tf.int32))


def _resize(squares, image_size):
    """Resizes squares [N, S, S, C], uint8, to uint8 [N, image_size, image_size, C]."""
    is_large = tf.shape(squares)[1] >= 2 * image_size
    resized = tf.cond(
        is_large,
        lambda: _interpolate(_halve(squares, image_size), image_size),
        lambda: _interpolate(squares, image_size),
    )
    shape = [*squares.shape[:1], image_size, image_size, squares.shape[-1]]
    return tf.ensure_shape(tf.cast(tf.round(resized), tf.uint8), shape)


def _interpolate(squares, image_size):
    # Not tf.image.resize(antialias=True), which takes three times as long as decoding a small JPEG.
    return tf.raw_ops.ResizeBilinear(images=squares, size=[image_size, image_size], half_pixel_centers=True)


@apart
def _halve(squares, image_size):
    """Takes the means of blocks of 2x2, 4x4, ... pixels until the side is less than twice `image_size`."""
    side = tf.shape(squares)[1]
    ratio = tf.cast(side // image_size, tf.float32)
    # The largest power of two up to the ratio.
    block = tf.bitwise.left_shift(1, tf.cast(tf.floor(tf.math.log(ratio) / tf.math.log(2.0) + 1e-5), tf.int32))
    left = side // block
    margin, used = (side - left * block) // 2, left * block
    squares = squares[:, margin : margin + used, margin : margin + used]
    return tf.raw_ops.ResizeArea(images=squares, size=tf.stack([left, left]))
