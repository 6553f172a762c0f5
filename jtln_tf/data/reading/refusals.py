"""Decodes batches for a server: an image that cannot be decoded gets a reason and leaves the others alone."""

from collections.abc import Callable

import tensorflow as tf

from jtln_tf.data.reading.decoding import BMP, JPEG_SIGNATURE, OTHER, WEBP, decode_image, identify
from jtln_tf.data.reading.foreign_formats import FOREIGN_REASONS, START_BYTES, signature_table
from jtln_tf.data.reading.headers import MOST_PIXELS, apart, code, contains, little, starts

# Images that are decoded at a time, each of up to `MOST_PIXELS`.
_AT_ONCE = 4
# A JPEG ends with this mark; some cameras write a few bytes behind it.
_JPEG_END, _TAIL_BYTES = b"\xff\xd9", 64
_GIF_SIZE, _RIFF_LENGTH, _RIFF_HEADER_BYTES, _BMP_LENGTH = 6, 4, 8, 2
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def decode_or_explain(
    encoded: tf.Tensor, image_size: int, channels: int, crop_bottom: int = 0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes image files as `decode_image` does, in operations that can be saved.

    Args:
        encoded: String tensor [B], the bytes of the files; B may be 0.
        image_size: Side of the results in pixels.
        channels: 1 (gray) or 3 (RGB).
        crop_bottom: Rows of the files' own pixels that are first cut off at the bottom.

    Returns:
        Pixels, uint8 [B, image_size, image_size, channels], and why an image cannot be decoded, strings [B]. The reason
        is empty for an image that is decoded, and the pixels of the others are 0.
    """
    # A GPU's memory is for the network.
    with tf.device("CPU:0"):
        pixels, is_decoded = _try_each(
            lambda one: decode_image(one, image_size, channels, crop_bottom, portable=True),
            encoded,
            tf.TensorSpec((image_size, image_size, channels), tf.uint8),
        )
        reasons = tf.cond(
            tf.reduce_all(is_decoded),
            lambda: tf.fill(tf.shape(encoded), ""),
            lambda: tf.where(is_decoded, "", _explain_all(encoded, is_decoded, crop_bottom)),
        )
    return pixels, reasons


def _try_each(function: Callable, elements: tf.Tensor, spec: tf.TensorSpec) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a function's values of elements [B], 0 where it raises an error, and whether it did not, bool [B]."""
    count = tf.size(elements, tf.int64)
    # Only a dataset goes on behind an error.
    numbered = tf.data.Dataset.from_tensor_slices((tf.range(count), elements))
    results = numbered.map(lambda number, one: (number, function(one)), num_parallel_calls=_AT_ONCE).ignore_errors()
    # There is no batch of nothing.
    results = results.concatenate(tf.data.Dataset.from_tensors((count, tf.zeros(spec.shape, spec.dtype))))
    options = tf.data.Options()
    # Planning takes longer than decoding.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    numbers, values = results.batch(count + 1).with_options(options).get_single_element()
    shape = tf.concat([[count + 1], tf.constant(list(spec.shape), tf.int64)], axis=0)
    values = tf.scatter_nd(numbers[:, None], values, shape)[:-1]
    succeeded = tf.scatter_nd(numbers[:, None], tf.ones_like(numbers), [count + 1])[:-1] > 0
    return tf.ensure_shape(values, [None, *spec.shape]), succeeded


@apart
def _explain_all(encoded, is_decoded, crop_bottom):
    sizes, has_size = _try_each(_read_jpeg_size, encoded, tf.TensorSpec((2,), tf.int64))
    return tf.map_fn(
        lambda one: tf.cond(one[1], lambda: "", lambda: _explain(one[0], one[2], one[3], crop_bottom)),
        (encoded, is_decoded, sizes, has_size),
        fn_output_signature=tf.TensorSpec((), tf.string),
    )


def _read_jpeg_size(encoded):
    is_jpeg = starts(encoded, JPEG_SIGNATURE)
    shape = tf.cond(is_jpeg, lambda: tf.image.extract_jpeg_shape(encoded), lambda: tf.zeros([3], tf.int32))
    return tf.cast(shape[1::-1], tf.int64)


@apart
def _explain(encoded, jpeg_size, has_jpeg_size, crop_bottom):
    """Returns why a file cannot be decoded, a scalar string tensor: the first reason whose condition holds."""
    fields, kind, is_animated, size = identify(encoded)
    data = tf.io.decode_raw(tf.strings.join([tf.strings.substr(encoded, 0, START_BYTES), bytes(START_BYTES)]), tf.uint8)
    is_jpeg, is_gif = starts(encoded, JPEG_SIGNATURE), fields["signature_4"] == code(b"GIF8")
    is_bmp = fields["signature_2"] == code(b"BM")
    is_foreign, foreign_reason = _name_foreign(data[:START_BYTES])
    size = tf.where(is_gif, tf.stack([little(data, _GIF_SIZE + place, 2) for place in (0, 2)]), size)
    size = tf.where(is_jpeg, jpeg_size, size)
    num_pixels = tf.reduce_prod(tf.cast(size, tf.float64))
    is_known = is_jpeg | is_gif | (kind != OTHER)
    has_size = is_known & (has_jpeg_size | ~is_jpeg)
    reasons = {
        "it is empty": tf.strings.length(encoded) == 0,
        "TIFF images are not read; save it as PNG": tf.reduce_any([starts(encoded, one) for one in _TIFF]),
        "a BMP image must be uncompressed, of 8 or 24 bits a pixel; save it as PNG": is_bmp & (kind != BMP),
        "an image must be a JPEG, PNG, WebP, GIF or BMP file": ~is_known,
        f"its header names no pixels, or more than the {MOST_PIXELS:,} that are read": has_size
        & ((tf.reduce_min(size) <= 0) | (num_pixels > MOST_PIXELS)),
        "the image has no row above crop_bottom": has_size & ~is_gif & ~is_animated & (size[1] <= crop_bottom),
        "it is truncated: it breaks off before its end": _breaks_off(encoded, data, is_jpeg, is_gif, kind),
        "it is damaged": tf.constant(True),
    }
    reason = tf.constant(list(reasons))[tf.argmax(tf.stack(list(reasons.values())))]
    return tf.where(is_foreign, foreign_reason, reason)


def _name_foreign(start):
    """Returns whether the first bytes of a file [`START_BYTES`] are of a format that is not read, and its reason."""
    signatures, counts, reasons = signature_table()
    fits = tf.reduce_all((start == signatures) | ~counts, axis=1)
    return tf.reduce_any(fits), tf.constant(FOREIGN_REASONS)[tf.constant(reasons)[tf.argmax(fits)]]


def _breaks_off(encoded, data, is_jpeg, is_gif, kind):
    length = tf.strings.length(encoded)
    named = tf.where(kind == WEBP, little(data, _RIFF_LENGTH, 4) + _RIFF_HEADER_BYTES, little(data, _BMP_LENGTH, 4))
    tail = tf.strings.substr(encoded, tf.maximum(length - _TAIL_BYTES, 0), _TAIL_BYTES)
    has_end = tf.stack(
        [contains(encoded, b"IEND"), tf.cast(length, tf.int64) >= named, tf.cast(length, tf.int64) >= named, True]
    )[kind]
    has_end = tf.where(is_gif, contains(tail, b";"), has_end)
    return ~tf.where(is_jpeg, contains(tail, _JPEG_END), has_end)
