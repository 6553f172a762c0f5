"""Decodes image files to square pixels in TensorFlow operations, which training, evaluation and serving share."""

import re

import numpy as np
import tensorflow as tf

from jtln_tf.data.reading.animations import decode_gif, decode_webp_animation
from jtln_tf.data.reading.headers import apart, bounded, code, read_fields, starts
from jtln_tf.data.reading.orientation import (
    are_reversed,
    may_turn_jpeg,
    may_turn_png,
    may_turn_webp,
    read_orientation,
    turn_upright,
)
from jtln_tf.data.reading.pillow_formats import HEAD_BYTES, find_orientation, read_image

JPEG_SIGNATURE = b"\xff\xd8\xff"
# libjpeg can divide the sides by these while it decodes, which saves most of the work.
_JPEG_RATIOS = (1, 2, 4, 8)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# A header of the file comes first. An older kind of the second one is shorter.
_BMP_FILE_HEADER_BYTES, _BMP_HEADER_BYTES = 14, 40
_WEBP_ANIMATED = 2
# Kinds of files that are no JPEG.
PNG, BMP, WEBP, OTHER = range(4)
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
        portable: Use only operations that can be saved, at the price of a graph that takes a second to start. TIFF
            images, and BMP images but uncompressed ones of 8 or 24 bits a pixel, are refused then. Otherwise Pillow
            decodes these and animations, and finds orientations.

    Returns:
        uint8 tensor [image_size, image_size, channels]; `tf.errors.InvalidArgumentError` is raised if the bytes are no
        complete image, it has more than `headers.MOST_PIXELS`, or no row of it is left.
    """
    square, orientation = tf.cond(
        starts(encoded, JPEG_SIGNATURE),
        lambda: _decode_jpeg(encoded, image_size, crop_bottom, portable),
        lambda: _decode_other(encoded, crop_bottom, portable),
    )
    square.set_shape([None, None, 3])
    # Before it is resized, which may cut a row off at the bottom.
    upright = tf.cond(orientation > 1, lambda: turn_upright(square, orientation), lambda: square)
    if channels == 1:
        upright = _by_rows(tf.image.rgb_to_grayscale, upright)
    return _resize(upright[None], image_size)[0]


def explain_error(error: tf.errors.OpError) -> str:
    """Returns TensorFlow's reason for an error in one line, without the place in its graph."""
    if isinstance(error, tf.errors.CancelledError):
        # Of two operations that end at once, TensorFlow may report the loop that was stopped, not what stopped it.
        return "the file is damaged"
    message = error.message.partition("\n\t [[")[0].strip().splitlines()[-1].split("}} ")[-1].split(" [Op:")[0]
    checked = re.search(r"assertion failed: \[(.*)\]", message)
    return checked[1].replace("] [", " ") if checked else message


def resize_images(images: np.ndarray, image_size: int) -> tf.Tensor:
    """Resizes uint8 images [N, H, W, C] to [N, image_size, image_size, C] by the same rule as `decode_image`."""
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return _resize(images[:, top : top + side, left : left + side], image_size)


def _decode_jpeg(encoded, image_size, crop_bottom, portable):
    """Returns a square of at least twice the wanted size, uint8 [S, S, 3], or the whole one; and the orientation."""
    whole = tf.image.extract_jpeg_shape(encoded)
    encoded, size = bounded(encoded, whole[1::-1]), whole[:2] - [crop_bottom, 0]
    with tf.control_dependencies([_assert_rows(size[0], crop_bottom)]):
        side = tf.reduce_min(size)
    # The search ends early in a large file, whose orientation takes no time beside its pixels.
    head = encoded if portable else tf.strings.substr(encoded, 0, HEAD_BYTES)
    may_be_turned = may_turn_jpeg(head) | (tf.strings.length(head) < tf.strings.length(encoded))
    orientation = _find_orientation(encoded, may_be_turned, portable)
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


def _find_orientation(encoded, may_be_turned, portable):
    find = read_orientation if portable else find_orientation
    return tf.cond(may_be_turned, lambda: find(encoded), lambda: 1)


@apart
def _decode_other(encoded, crop_bottom, portable):
    """Returns the central square, uint8 [S, S, 3], and the orientation."""
    fields, kind, is_animated, size = identify(encoded)
    is_png, is_webp = kind == PNG, kind == WEBP
    encoded = bounded(encoded, size)
    may_be_turned = (is_png & may_turn_png(encoded)) | (is_webp & may_turn_webp(fields))
    orientation = _find_orientation(encoded, may_be_turned, portable)

    def decode_rest():
        return _decode_rest(encoded, fields, is_animated) if portable else read_image(encoded)

    image = tf.switch_case(
        tf.where(is_animated, OTHER, kind),
        [
            lambda: tf.image.decode_png(encoded, channels=4),
            lambda: _decode_bmp(encoded, fields),
            lambda: tf.image.decode_webp(encoded, channels=0)[0],
            decode_rest,
        ],
    )
    bits = tf.where(is_png & (fields["png_bit_depth"] < 8), fields["png_bit_depth"], 8)
    return _lay_on_white(_central_square(image, crop_bottom, orientation), bits), orientation


def identify(encoded: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor, tf.Tensor]:
    """Reads the header of a file that is no JPEG, a scalar string tensor.

    Returns its fields; `PNG`, `BMP`, `WEBP` or `OTHER`; whether it is an animated WebP; and its width and height [2],
    which are 1 for other files.
    """
    fields = read_fields(encoded)
    is_png = fields["signature_8"] == code(_PNG_SIGNATURE)
    is_webp = (fields["signature_4"] == code(b"RIFF")) & (fields["riff_kind"] == code(b"WEBP"))
    is_extended = fields["webp_chunk"] == code(b"VP8X")
    is_animated = is_webp & is_extended & (tf.bitwise.bitwise_and(fields["webp_flags"], _WEBP_ANIMATED) > 0)
    # The first kind that fits; the last one has no size here, for it is decoded elsewhere.
    kind = tf.argmax(tf.stack([is_png, _is_plain_bmp(fields), is_webp, True]), output_type=tf.int32)
    sizes = [(fields["png_width"], fields["png_height"]), _bmp_size(fields), _webp_size(fields, is_extended), (1, 1)]
    return fields, kind, is_animated, tf.stack(sizes)[kind]


def _decode_rest(encoded, fields, is_animated):
    """Decodes an animation, or refuses the file, without Python."""
    is_gif = fields["signature_4"] == code(b"GIF8")
    is_bmp = fields["signature_2"] == code(b"BM")
    what = tf.where(is_bmp, "a BMP image must be uncompressed, of 8 or 24 bits a pixel; a PNG image is safe", "")
    what = tf.where(is_bmp, what, "an image must be a JPEG, PNG, WebP, GIF or BMP file")
    with tf.control_dependencies([tf.raw_ops.Assert(condition=is_gif | is_animated, data=[what])]):
        return tf.cond(is_gif, lambda: decode_gif(encoded), lambda: decode_webp_animation(encoded))


def _central_square(image, crop_bottom, orientation):
    size = tf.shape(image)[:2] - [crop_bottom, 0]
    with tf.control_dependencies([_assert_rows(size[0], crop_bottom)]):
        begin, side = _place_square(size, orientation)
    top, left = begin[0], begin[1]
    return image[top : top + side, left : left + side]


def _webp_size(fields, is_extended):
    """Returns the width and height of a WebP file by the first chunk."""
    bits = fields["vp8l_sides"]
    lossless = [1 + bits % 2**14, 1 + bits // 2**14 % 2**14]
    lossy = [fields["vp8_width"] % 2**14, fields["vp8_height"] % 2**14]
    plain = tf.where(fields["webp_chunk"] == code(b"VP8L"), lossless, lossy)
    return tf.where(is_extended, [1 + fields["vp8x_width"], 1 + fields["vp8x_height"]], plain)


def _lay_on_white(image, bits):
    """Returns uint8 [H, W, 3] of an image with or without alpha, of samples of some bits."""
    # TensorFlow gives an opaque image of 1, 2 or 4 bits the largest sample of that depth as alpha: 1, 3 or 15.
    opaque_alpha = tf.cast(tf.bitwise.left_shift(tf.constant(1, tf.int64), bits) - 1, tf.uint8)
    # Most images are opaque, and blending takes four times the memory.
    is_opaque = tf.reduce_all(image[..., 3:] == opaque_alpha)
    return tf.cond(is_opaque, lambda: image[..., :3], lambda: _by_rows(_blend_with_white, image))


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


def _is_plain_bmp(fields):
    """Returns whether a file is a BMP that TensorFlow decodes right: no bit masks, compression or older header."""
    is_known = (fields["bmp_header_bytes"] >= _BMP_HEADER_BYTES) & (fields["bmp_compression"] == 0)
    is_whole = (fields["bmp_bit_depth"] == 8) | (fields["bmp_bit_depth"] == 24)
    return (fields["signature_2"] == code(b"BM")) & is_known & is_whole


def _bmp_size(fields):
    # The height, of 32 bits with a sign, is negative if the first row is at the top.
    return fields["bmp_width"], tf.minimum(fields["bmp_height"], 2**32 - fields["bmp_height"])


def _decode_bmp(encoded, fields):
    pixels = tf.image.decode_image(encoded, channels=3, expand_animations=False)
    is_palette = fields["bmp_bit_depth"] == 8
    return tf.cond(is_palette, lambda: _look_up_bmp_palette(encoded, fields, pixels[..., 0]), lambda: pixels)


def _look_up_bmp_palette(encoded, fields, indices):
    # TensorFlow returns the indices as gray samples.
    begin = _BMP_FILE_HEADER_BYTES + fields["bmp_header_bytes"]
    palette = tf.strings.substr(encoded, begin, fields["bmp_first_pixel"] - begin)
    blue_green_red = tf.io.decode_raw(palette, tf.uint8)
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
