"""Decodes image files to square pixels in TensorFlow operations, which training, evaluation and serving share."""

import numpy as np
import tensorflow as tf

from jtln_tf.data.reading.orientation import apart, has_exif, turn_upright

_JPEG_SIGNATURE = b"\xff\xd8\xff"
# libjpeg can divide the sides by these while it decodes, which saves most of the work.
_JPEG_RATIOS = (1, 2, 4, 8)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Place of a field of the IHDR chunk, which is the first one (ISO/IEC 15948, section 11.2.2).
_PNG_BIT_DEPTH = 24
_BMP_SIGNATURE = b"BM"
# The last field of the file header is where the pixels start; the next header begins with its own size.
_BMP_PIXEL_OFFSET, _BMP_HEADER, _BMP_BIT_DEPTH = 10, 14, 28
# RIFF, the size of the file, WEBP, then a chunk. An animation has a VP8X chunk with this bit of its flags set (WebP
# Container Specification, "Extended File Format").
_RIFF_SIGNATURE, _WEBP_SIGNATURE, _WEBP_OFFSET = b"RIFF", b"WEBP", 8
_WEBP_EXTENDED, _WEBP_CHUNK, _WEBP_FLAGS, _WEBP_ANIMATED = b"VP8X", 12, 20, 2

# All fields above lie within so many bytes.
_HEADER_BYTES = 32


def decode_image(encoded: tf.Tensor, image_size: int, channels: int, crop_bottom: int = 0) -> tf.Tensor:
    """Decodes one JPEG, PNG, WebP, GIF or BMP image (the first frame) to a square of pixels.

    The central square is resized to `image_size`: halved, by the mean of 2x2 pixels, while it is at least twice as
    large, then interpolated bilinearly. A JPEG is cut and halved while it is decoded, and turned upright as its EXIF
    orientation says. Gray becomes RGB by repetition and RGB becomes gray by luma. Transparent images get a white
    background. 16-bit samples are reduced to 8 bits; 1-, 2- and 4-bit gray is spread over 0..255.

    Args:
        encoded: Scalar string tensor, the bytes of the file.
        image_size: Side of the result in pixels.
        channels: 1 (gray) or 3 (RGB).
        crop_bottom: Rows of the file's own pixels that are first cut off at the bottom.

    Returns:
        uint8 tensor [image_size, image_size, channels]; `tf.errors.InvalidArgumentError` is raised if the bytes are no
        complete image, or no row of it is left.
    """
    is_jpeg = _has(encoded, _JPEG_SIGNATURE)
    square = tf.cond(
        is_jpeg, lambda: _decode_jpeg(encoded, image_size, crop_bottom), lambda: _decode_other(encoded, crop_bottom)
    )
    square.set_shape([None, None, 3])
    if channels == 1:
        square = tf.image.rgb_to_grayscale(square)
    pixels = _resize(square[None], image_size)[0]
    return tf.cond(is_jpeg & has_exif(encoded), lambda: turn_upright(pixels, encoded), lambda: pixels)


def explain_error(error: tf.errors.OpError) -> str:
    """Returns TensorFlow's reason for an error in one line, without the place in its graph."""
    return error.message.partition("\n\t [[")[0].strip().splitlines()[-1].split("}} ")[-1].split(" [Op:")[0]


def resize_images(images: np.ndarray, image_size: int) -> tf.Tensor:
    """Resizes uint8 images [N, H, W, C] to [N, image_size, image_size, C] by the same rule as `decode_image`."""
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return _resize(images[:, top : top + side, left : left + side], image_size)


def _has(encoded, signature, offset=0):
    return tf.strings.substr(encoded, offset, len(signature)) == signature


def _decode_jpeg(encoded, image_size, crop_bottom):
    size = tf.image.extract_jpeg_shape(encoded)[:2] - [crop_bottom, 0]
    with tf.control_dependencies([_assert_rows(size[0], crop_bottom)]):
        side = tf.reduce_min(size)
    return tf.cond(
        side >= _JPEG_RATIOS[1] * image_size,
        lambda: _decode_scaled_jpeg(encoded, size, image_size),
        lambda: _decode_jpeg_square(encoded, size, 1),
    )


@apart
def _decode_scaled_jpeg(encoded, size, image_size):
    number = tf.reduce_sum(tf.cast(tf.reduce_min(size) >= [ratio * image_size for ratio in _JPEG_RATIOS], tf.int32))
    ratios = [lambda ratio=ratio: _decode_jpeg_square(encoded, size // ratio, ratio) for ratio in _JPEG_RATIOS]
    return tf.switch_case(number - 1, ratios)


def _decode_jpeg_square(encoded, size, ratio):
    side = tf.reduce_min(size)
    window = tf.concat([(size - side) // 2, [side, side]], axis=0)
    return tf.image.decode_and_crop_jpeg(encoded, window, channels=3, ratio=ratio)


def _assert_rows(rows, crop_bottom):
    if not crop_bottom:
        return tf.no_op()
    return tf.debugging.assert_positive(rows, "the image has no row above crop_bottom")


@apart
def _decode_other(encoded, crop_bottom):
    # The file may end within its header.
    header = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER_BYTES), tf.constant(bytes(_HEADER_BYTES))])
    is_webp = _has(header, _RIFF_SIGNATURE) & _has(header, _WEBP_SIGNATURE, _WEBP_OFFSET)
    rgb = tf.case(
        [
            (_has(header, _PNG_SIGNATURE), lambda: _decode_png(encoded, header)),
            (_has(header, _BMP_SIGNATURE), lambda: _decode_bmp(encoded, header)),
            (is_webp, lambda: _decode_webp(encoded, header)),
        ],
        default=lambda: _decode_opaque(encoded),
    )
    height, width = tf.shape(rgb)[0] - crop_bottom, tf.shape(rgb)[1]
    with tf.control_dependencies([_assert_rows(height, crop_bottom)]):
        side = tf.minimum(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return rgb[top : top + side, left : left + side]


def _decode_opaque(encoded):
    # GIF ignores `channels` and may carry several frames; its first frame is RGB already.
    return tf.image.decode_image(encoded, channels=3, expand_animations=False)


def _decode_webp(encoded, header):
    flags = tf.io.decode_raw(tf.strings.substr(header, _WEBP_FLAGS, 1), tf.uint8)[0]
    is_animated = _has(header, _WEBP_EXTENDED, _WEBP_CHUNK) & (flags & _WEBP_ANIMATED > 0)
    # With channels=0, TensorFlow 2.21 writes beyond its memory if the frames of an animation are opaque; with 4 it
    # refuses them.
    frames = tf.cond(is_animated, lambda: tf.image.decode_webp(encoded, 4), lambda: tf.image.decode_webp(encoded, 0))
    frame = tf.pad(frames[0], [[0, 0], [0, 0], [0, 4 - tf.shape(frames)[-1]]], constant_values=255)
    return _lay_on_white(tf.ensure_shape(frame, [None, None, 4]))


def _decode_png(encoded, header):
    rgba = tf.image.decode_png(encoded, channels=4)
    bit_depth = tf.cast(tf.io.decode_raw(tf.strings.substr(header, _PNG_BIT_DEPTH, 1), tf.uint8)[0], tf.int32)
    # TensorFlow gives an opaque image of 1, 2 or 4 bits the largest sample of that depth as alpha: 1, 3 or 15.
    opaque_alpha = tf.cast(tf.bitwise.left_shift(1, bit_depth) - 1, tf.uint8)
    is_opaque_low_depth = (bit_depth < 8) & tf.reduce_all(rgba[..., 3] == opaque_alpha)
    return tf.cond(is_opaque_low_depth, lambda: rgba[..., :3], lambda: _lay_on_white(rgba))


def _lay_on_white(rgba):
    # Most images are opaque, and blending takes four times the memory.
    is_opaque = tf.reduce_all(rgba[..., 3] == 255)
    return tf.cond(is_opaque, lambda: rgba[..., :3], lambda: _blend_with_white(rgba))


def _blend_with_white(rgba):
    rgb, alpha = tf.cast(rgba[..., :3], tf.float32), tf.cast(rgba[..., 3:], tf.float32) / 255.0
    return tf.cast(tf.round(rgb * alpha + 255.0 * (1.0 - alpha)), tf.uint8)


def _decode_bmp(encoded, header):
    pixels = _decode_opaque(encoded)
    bit_depth = tf.io.decode_raw(tf.strings.substr(header, _BMP_BIT_DEPTH, 2), tf.uint16)[0]
    return tf.cond(bit_depth == 8, lambda: _look_up_bmp_palette(encoded, header, pixels[..., 0]), lambda: pixels)


def _look_up_bmp_palette(encoded, header, indices):
    # TensorFlow returns the indices as gray samples.
    fields = tf.io.decode_raw(tf.strings.substr(header, _BMP_PIXEL_OFFSET, 8), tf.int32)
    first_pixel, begin = fields[0], _BMP_HEADER + fields[1]
    blue_green_red = tf.io.decode_raw(tf.strings.substr(encoded, begin, first_pixel - begin), tf.uint8)
    palette = tf.reshape(blue_green_red, [-1, 4])[:, 2::-1]
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
