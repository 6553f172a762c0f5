"""Encoded image bytes to square pixels, in TensorFlow operations: training, evaluation and serving share them."""

import tensorflow as tf

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Offset of a field of the IHDR chunk, which the PNG standard puts first (ISO/IEC 15948, section 11.2.2).
_PNG_BIT_DEPTH = 24
_BMP_SIGNATURE = b"BM"
# The file header's last field is where the pixels start; the next header begins with its own size.
_BMP_PIXEL_OFFSET, _BMP_HEADER, _BMP_BIT_DEPTH = 10, 14, 28


def decode_image(encoded, image_size, channels, crop_bottom=0):
    """Decodes one JPEG, PNG, GIF (first frame) or BMP image to a square of pixels.

    The shorter side is resized to `image_size` (bilinear, antialiased) and the centre is cut out. Gray becomes RGB by
    repetition, RGB becomes gray by luma; transparency is laid on white; 16-bit samples are reduced to 8; 1-, 2- and
    4-bit gray is spread over 0..255.

    Args:
        encoded: Scalar string tensor, the bytes of the file.
        image_size: Side of the result in pixels.
        channels: 1 (gray) or 3 (RGB).
        crop_bottom: Rows of the file's own pixels to cut off first, at the bottom.

    Returns:
        uint8 tensor [image_size, image_size, channels].

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are no complete image, or no row of it is left.
    """
    is_png = tf.strings.substr(encoded, 0, len(_PNG_SIGNATURE)) == _PNG_SIGNATURE
    is_bmp = tf.strings.substr(encoded, 0, len(_BMP_SIGNATURE)) == _BMP_SIGNATURE
    rgb = tf.cond(
        is_png,
        lambda: _decode_png(encoded),
        lambda: tf.cond(is_bmp, lambda: _decode_bmp(encoded), lambda: _decode_opaque(encoded)),
    )
    rgb.set_shape([None, None, 3])
    if crop_bottom:
        left = tf.shape(rgb)[0] - crop_bottom
        with tf.control_dependencies([tf.debugging.assert_positive(left, "the image has no row above crop_bottom")]):
            rgb = rgb[:left]
    if channels == 1:
        rgb = tf.image.rgb_to_grayscale(rgb)
    return tf.cast(tf.round(_resize_and_crop(rgb, image_size)), tf.uint8)


def resize_images(images, image_size):
    """Resizes uint8 images [N, H, W, C] to [N, image_size, image_size, C] by the same rule as `decode_image`."""
    return tf.cast(tf.round(_resize_and_crop(images, image_size)), tf.uint8)


def _decode_opaque(encoded):
    # GIF ignores `channels` and may carry several frames; its first frame is RGB already.
    return tf.image.decode_image(encoded, channels=3, expand_animations=False)


def _decode_png(encoded):
    rgba = tf.cast(tf.image.decode_png(encoded, channels=4), tf.float32)
    rgb, alpha = rgba[..., :3], rgba[..., 3:] / 255.0
    bit_depth = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, _PNG_BIT_DEPTH, 1), tf.uint8)[0], tf.int32)
    # To an opaque image of 1, 2 or 4 bits TensorFlow gives the largest sample of that depth as alpha: 1, 3 or 15.
    opaque_alpha = tf.cast(tf.bitwise.left_shift(1, bit_depth) - 1, tf.float32)
    is_opaque_low_depth = (bit_depth < 8) & tf.reduce_all(rgba[..., 3] == opaque_alpha)
    on_white = rgb * alpha + 255.0 * (1.0 - alpha)
    return tf.cast(tf.round(tf.where(is_opaque_low_depth, rgb, on_white)), tf.uint8)


def _decode_bmp(encoded):
    pixels = _decode_opaque(encoded)
    bit_depth = tf.io.decode_raw(tf.strings.substr(encoded, _BMP_BIT_DEPTH, 2), tf.uint16)[0]
    return tf.cond(bit_depth == 8, lambda: _look_up_bmp_palette(encoded, pixels[..., 0]), lambda: pixels)


def _look_up_bmp_palette(encoded, indices):
    # TensorFlow takes the indices for gray samples.
    first_pixel, header_size = tf.unstack(
        tf.io.decode_raw(tf.strings.substr(encoded, _BMP_PIXEL_OFFSET, 8), tf.int32), num=2
    )
    begin = _BMP_HEADER + header_size
    blue_green_red = tf.io.decode_raw(tf.strings.substr(encoded, begin, first_pixel - begin), tf.uint8)
    palette = tf.reshape(blue_green_red, [-1, 4])[:, 2::-1]
    return tf.gather(palette, tf.cast(indices, tf.int32))


def _resize_and_crop(images, image_size):
    images = tf.convert_to_tensor(images)
    height, width = tf.shape(images)[-3], tf.shape(images)[-2]
    shorter = tf.minimum(height, width)
    resized_height = tf.maximum(image_size, (height * image_size + shorter // 2) // shorter)
    resized_width = tf.maximum(image_size, (width * image_size + shorter // 2) // shorter)
    resized = tf.image.resize(images, [resized_height, resized_width], antialias=True)
    top, left = (resized_height - image_size) // 2, (resized_width - image_size) // 2
    cropped = resized[..., top : top + image_size, left : left + image_size, :]
    return tf.ensure_shape(cropped, images.shape[:-3] + [image_size, image_size, images.shape[-1]])
