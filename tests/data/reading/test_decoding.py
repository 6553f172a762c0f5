"""Image files to pixels, against what PIL makes of them."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from jtln_tf.data import decode_image, explain_error
from tests import reference

ROWS, COLUMNS = np.mgrid[0:32, 0:32]
COLOURS = np.stack([COLUMNS * 8, ROWS * 8, (COLUMNS + ROWS) * 4], -1).astype(np.uint8)
PICTURE = Image.fromarray(COLOURS)
ALPHA = Image.fromarray((255 - 4 * ROWS - 3 * COLUMNS).astype(np.uint8))


def encode(picture, file_format, **options):
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def transparent(picture):
    picture = picture.copy()
    picture.putalpha(ALPHA)
    return picture


def on_white(encoded):
    """RGB pixels as PIL reads them, composited on white in float64."""
    rgba = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGBA"), np.float64)
    alpha = rgba[..., 3:] / 255
    return np.round(rgba[..., :3] * alpha + 255 * (1 - alpha))


def luma(rgb):
    """ITU-R BT.601, as PIL and TensorFlow use it."""
    return rgb @ np.array([0.299, 0.587, 0.114])


def decode(encoded, image_size=32, channels=3):
    return decode_image(tf.constant(encoded), image_size, channels).numpy()


LOSSLESS = {
    "png_rgb": encode(PICTURE, "PNG"),
    "png_rgba": encode(transparent(PICTURE), "PNG"),
    "png_gray": encode(PICTURE.convert("L"), "PNG"),
    "png_gray_one_transparent": encode(PICTURE.convert("L"), "PNG", transparency=100),
    "png_1_bit": encode(PICTURE.convert("1"), "PNG"),
    "png_1_bit_one_transparent": encode(PICTURE.convert("1"), "PNG", transparency=0),
    "png_palette_1_bit": encode(PICTURE.quantize(2), "PNG"),
    "png_palette_2_bit": encode(PICTURE.quantize(4), "PNG"),
    "png_palette_4_bit": encode(PICTURE.quantize(16), "PNG"),
    "png_palette_8_bit": encode(PICTURE.quantize(200), "PNG"),
    "png_palette_4_bit_one_transparent": encode(PICTURE.quantize(16), "PNG", transparency=3),
    "png_all_transparent": encode(Image.new("RGBA", (32, 32), (10, 20, 30, 0)), "PNG"),
    "bmp_rgb": encode(PICTURE, "BMP"),
    "bmp_gray": encode(PICTURE.convert("L"), "BMP"),
    "bmp_palette": encode(PICTURE.quantize(200), "BMP"),
    "webp_rgb": encode(PICTURE, "WEBP", lossless=True),
    "webp_rgba": encode(transparent(PICTURE), "WEBP", lossless=True),
    "webp_animated": encode(
        transparent(PICTURE), "WEBP", lossless=True, save_all=True, append_images=[transparent(PICTURE.rotate(90))]
    ),
    "gif": encode(PICTURE.quantize(200), "GIF"),
    "gif_animated": encode(PICTURE.quantize(64), "GIF", save_all=True, append_images=[PICTURE.rotate(90).quantize(64)]),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_equal_pil(name):
    expected = on_white(LOSSLESS[name])
    np.testing.assert_array_equal(decode(LOSSLESS[name]), expected)
    # Our luma is taken of integers and rounded once more.
    np.testing.assert_allclose(decode(LOSSLESS[name], channels=1)[..., 0], luma(expected), atol=1.01)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_close_to_pil(mode, progressive):
    encoded = encode(PICTURE.convert(mode), "JPEG", quality=95, progressive=progressive)
    expected = on_white(encoded)
    # TensorFlow takes libjpeg's fast integer transform, PIL the accurate one.
    np.testing.assert_allclose(decode(encoded).astype(float), expected, atol=8)
    assert np.abs(decode(encoded) - expected).mean() < 2
    assert np.abs(decode(encoded, channels=1)[..., 0] - luma(expected)).mean() < 2


def test_16_bit_gray_keeps_its_high_byte():
    samples = (ROWS * 2000 + COLUMNS * 13).astype(np.uint16)
    expected = np.repeat((samples >> 8)[..., None], 3, axis=-1)
    # libpng may round where we expect the high byte.
    np.testing.assert_allclose(decode(encode(Image.fromarray(samples), "PNG")).astype(int), expected, atol=1)


@pytest.mark.parametrize("bits", [2, 4])
def test_low_depth_gray_is_spread_over_the_range(bits):
    largest = 2**bits - 1
    samples = (COLUMNS % (largest + 1)).astype(np.uint8)
    picture = Image.fromarray(samples * (255 // largest))
    encoded = encode_low_depth_png(samples, bits)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encoded)).convert("L")), np.asarray(picture))
    np.testing.assert_array_equal(decode(encoded)[..., 0], np.asarray(picture))


def encode_low_depth_png(samples, bits):
    """A PNG of gray samples of 2 or 4 bits, which PIL does not write."""
    height, width = samples.shape
    shifts = np.arange(8 - bits, -1, -bits)
    packed = (samples.reshape(height, -1, 8 // bits) << shifts).sum(-1).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(60, 40), (101, 33), (7, 64), (24, 24), (16, 9)])
@pytest.mark.parametrize("image_size", [8, 24, 31])
def test_crop_and_resize(width, height, image_size):
    picture = PICTURE.resize((width, height), Image.Resampling.BICUBIC)
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    # Halvings, counted another way than ours.
    while min(square.size) >= 2 * image_size:
        odd = min(square.size) % 2
        assert not odd or image_size == 8
        square = square.crop((0, 0, min(square.size) - odd, min(square.size) - odd)).reduce(2)
    expected = reference.resize_bilinear(np.asarray(square, np.float64), image_size)
    # PIL rounds after each halving.
    tolerance = 0.51 if min(width, height) < 2 * image_size else 4
    np.testing.assert_allclose(decode(encode(picture, "PNG"), image_size).astype(float), expected, atol=tolerance)


@pytest.mark.parametrize("side", [64, 160, 1024])
def test_large_jpeg_is_close_to_the_mean_of_its_pixels(side):
    """Halved while it is decoded, it must be what the halved pixels are, up to libjpeg's rounding."""
    rng = np.random.default_rng(side)
    blots = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize(
        (side + 64, side), Image.Resampling.BICUBIC
    )
    encoded = encode(blots, "JPEG", quality=95)
    middle = Image.open(io.BytesIO(encoded)).crop((32, 0, 32 + side, side))
    expected = np.asarray(middle.resize((32, 32), Image.Resampling.BOX), float)
    assert np.abs(decode(encoded).astype(float) - expected).mean() < 2.5


def test_bottom_is_cropped_before_the_middle_is_taken():
    rows = 12
    whole, cropped = encode(PICTURE, "PNG"), encode(PICTURE.crop((0, 0, 32, 32 - rows)), "PNG")
    result = decode_image(tf.constant(whole), 8, 3, crop_bottom=rows).numpy()
    np.testing.assert_array_equal(result, decode(cropped, 8))


def transparent_gif():
    palette = PICTURE.quantize(64)
    return encode(palette, "GIF", transparency=palette.getpixel((3, 3)), save_all=True, append_images=[palette])


OPAQUE = PICTURE.rotate(90)
READ_OTHERWISE = {
    "webp_opaque_animation": encode(PICTURE, "WEBP", lossless=True, save_all=True, append_images=[OPAQUE]),
    "gif_transparent_animation": transparent_gif(),
    "bmp_1_bit": encode(PICTURE.convert("1"), "BMP"),
    "bmp_32_bit": encode(transparent(PICTURE), "BMP"),
    "tiff": encode(PICTURE, "TIFF", compression="tiff_lzw"),
    "tiff_transparent": encode(transparent(PICTURE), "TIFF"),
    "tiff_upright": encode(PICTURE, "TIFF", tiffinfo={274: 6}),
}


@pytest.mark.parametrize("name", READ_OTHERWISE)
def test_files_that_tensorflow_alone_does_not_read_right_equal_pil(name):
    encoded = READ_OTHERWISE[name]
    np.testing.assert_allclose(decode(encoded), on_white(encoded), atol=1)
    is_portable = name.startswith(("webp", "gif"))
    try:
        portable = decode_image(tf.constant(encoded), 32, 3, portable=True).numpy()
    except tf.errors.InvalidArgumentError as error:
        portable = explain_error(error)
    assert is_portable == (not isinstance(portable, str)) and (is_portable or "BMP" in portable)
    assert not is_portable or np.array_equal(portable, decode(encoded))


def header_of(name):
    """The header of an image of 20,000 x 20,000 pixels, with nothing behind it, or not enough."""
    side = struct.pack("<H", 20_000)
    return {
        "png": b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 20_000, 20_000, 8, 2, 0, 0, 0),
        "gif": b"GIF89a" + 2 * side + b"\0\0\0,\0\0\0\0" + 2 * side + b"\0\2\2D\1\0;",
        "webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + 2 * struct.pack("<I", 19_999)[:3],
        "bmp": b"BM" + struct.pack("<IIIIiiHHI", 99, 0, 54, 40, 20_000, -20_000, 1, 24, 0) + bytes(20),
        "tiff": encode(PICTURE, "TIFF").replace(
            struct.pack("<HHII", 256, 4, 1, 32), struct.pack("<HHII", 256, 4, 1, 2**23)
        ),
    }[name]


@pytest.mark.parametrize("name", ["png", "gif", "webp", "bmp", "tiff"])
def test_too_many_pixels_are_refused_by_the_header(name):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        decode(header_of(name))
    assert re.fullmatch(
        r"its header names \d+ x \d+ pixels, and 1 to 134,217,728 are read", explain_error(caught.value)
    )


def test_orientation_is_found_behind_other_data_and_in_png_and_webp():
    plain, tiff = encode(SEEN, "JPEG", quality=95), exif(6, kind=4)
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + b" " * 30_000
    thumbnail = b"\xff\xe0" + struct.pack(">H", 402) + b"JFXX\0\x10" + bytes(394)
    turned = with_exif(plain, tiff)
    late = turned[:20] + b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp + thumbnail + turned[20:]
    # Longer than the head that is looked at first.
    profile = 3 * (b"\xff\xe2" + struct.pack(">H", 60_002) + bytes(60_000))
    files = [
        late,
        turned[:20] + profile + turned[20:],
        turned + bytes(2**18),
        encode(SEEN, "PNG", exif=b"Exif\0\0" + tiff),
    ]
    files.append(encode(SEEN, "WEBP", lossless=True, exif=tiff))
    upright = decode(encode(SEEN.rotate(270, expand=True), "PNG")).astype(float)
    for encoded in files:
        assert np.abs(decode(encoded) - upright).mean() < 2


SEEN = Image.fromarray(np.asarray(PICTURE.resize((48, 64), Image.Resampling.BICUBIC)))


def exif(orientation, *, little=True, before=0, kind=3):
    """The TIFF structure of EXIF data: `before` other entries, then the orientation as a value of type `kind`."""
    order = "<" if little else ">"
    entries = [struct.pack(f"{order}HHII", 256 + number, 4, 1, 9) for number in range(before)]
    entries.append(struct.pack(f"{order}HHIHH", 0x112, kind, 1, orientation, 0))
    header = (b"II" if little else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return header + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)


def with_exif(encoded, tiff, *, after_jfif=True):
    """A JPEG with EXIF data behind or before its JFIF segment, which PIL writes first."""
    segment = b"Exif\0\0" + tiff
    position = 2 + (2 + struct.unpack(">H", encoded[4:6])[0] if after_jfif else 0)
    return encoded[:position] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + encoded[position:]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize("after_jfif", [True, False])
def test_jpeg_is_turned_upright(orientation, little, after_jfif):
    plain = encode(SEEN, "JPEG", quality=95)
    encoded = with_exif(plain, exif(orientation, little=little, before=orientation), after_jfif=after_jfif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    assert upright.size == ((48, 64) if orientation < 5 else (64, 48))
    expected = decode(encode(upright, "PNG")).astype(float)
    assert np.abs(decode(encoded) - expected).mean() < 2
    others = [np.abs(turned - expected).mean() for turned in (expected[::-1], expected[:, ::-1])]
    assert min(others) > 10


UNTOLD = {
    "no such orientation": exif(9),
    "a text": exif(6, kind=2),
    "cut short": exif(6, before=3)[:30],
    "no header": b"I",
    "offset beyond the end": b"II*\0\xff\xff\0\0" + bytes(20),
    "more entries than bytes": b"II*\0\x08\0\0\0\xff\xff" + bytes(20),
    "no tiff": b"GIF89a" + bytes(range(200)),
}


@pytest.mark.parametrize("name", UNTOLD)
def test_jpeg_whose_exif_data_do_not_say_is_left_as_it_is(name):
    plain = encode(SEEN, "JPEG", quality=95)
    np.testing.assert_array_equal(decode(with_exif(plain, UNTOLD[name])), decode(plain))
