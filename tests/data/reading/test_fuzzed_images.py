"""Thousands of drawn and damaged image files: what is read is what PIL reads, and the rest is refused with a reason."""

import io
import resource
import struct
import time
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps, PngImagePlugin

from jtln_tf.data.reading.decoding import decode_image, explain_error, resize_images

SIZE = 24
FORMATS = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("P", "L", "RGBA", "1"),
    "BMP": ("RGB", "L", "P", "1", "RGBA"),
    "TIFF": ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr", "I;16"),
}
KINDS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)


def draw_picture(rng, mode):
    """A smooth picture, so that another rounding inside of a decoder changes little."""
    width, height = rng.integers(1, 80, 2) if rng.random() < 0.2 else rng.integers(16, 48, 2)
    small = rng.integers(0, 256, (3, 3, 4), np.uint8)
    picture = Image.fromarray(small, "RGBA").resize((int(width), int(height)), Image.Resampling.BICUBIC)
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    if mode == "P":
        return picture.convert("RGB").quantize(int(rng.choice([2, 4, 13, 200])))
    return picture if mode == "RGBA" else picture.convert("RGB").convert(mode)


def draw_exif(rng):
    """EXIF data as cameras, programs and broken programs write them."""
    order, mark = (("<", b"II"), (">", b"MM"))[rng.integers(2)]
    kind, value, count = int(rng.choice(KINDS)) if rng.random() < 0.5 else 3, int(rng.integers(0, 10)), 1
    formats = {3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I"}
    numbers = (value, 1) if kind in (5, 10) else (value,)
    data = struct.pack(order + formats.get(kind, "B"), *numbers)
    entries = [struct.pack(f"{order}HHII", 256 + i, 4, 1, 9) for i in range(rng.integers(0, 4))]
    behind = 10 + 12 * (len(entries) + 1) + 4
    inline = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(order + "I", behind)
    entries.append(struct.pack(f"{order}HHI", 274, kind, count) + inline)
    head = mark + struct.pack(f"{order}HIH", 42, 8, len(entries))
    return b"Exif\0\0" + head + b"".join(entries) + bytes(4) + data


def draw_segments(rng, tiff):
    """The EXIF data among other segments of a JPEG, in any order."""
    segments = [(0xE1, tiff)] if tiff else []
    others = [
        (0xE0, b"JFXX\0\x10" + rng.bytes(40)),
        (0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="%d"/>' % rng.integers(0, 10)),
        (0xE2, b"ICC_PROFILE\0\1\1" + rng.bytes(300)),
        (0xED, b"Photoshop 3.0\0" + rng.bytes(20)),
        (0xFE, b"Exif\0\0II*\0" + rng.bytes(9)),
    ]
    for _ in range(rng.integers(0, 4)):
        segments.insert(rng.integers(len(segments) + 1), others[rng.integers(len(others))])
    return b"".join(b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments)


def draw_file(rng):
    """Returns the format and the bytes of a valid file."""
    name = list(FORMATS)[rng.integers(len(FORMATS))]
    mode = str(rng.choice(FORMATS[name]))
    picture, options, tiff = draw_picture(rng, mode), {}, draw_exif(rng) if rng.random() < 0.6 else b""
    if name == "JPEG":
        options = {"quality": 95, "progressive": bool(rng.integers(2)), "subsampling": 0}
    elif name == "PNG":
        options = {"exif": tiff} if tiff else {}
        if mode == "P" and rng.random() < 0.5:
            options["transparency"] = int(rng.integers(3))
        if rng.random() < 0.2:
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add_itxt(
                "XML:com.adobe.xmp", f"<x tiff:Orientation='1' tiff:Orientation=\"{rng.integers(9)}\"/>"
            )
    elif name == "WEBP":
        options = {"lossless": True, **({"exif": tiff} if tiff else {})}
    elif name == "TIFF":
        options = {"compression": str(rng.choice(["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]))}
        if tiff and rng.random() < 0.5:
            options["tiffinfo"] = {274: int(rng.integers(1, 9))}
    elif name == "GIF" and mode == "P" and rng.random() < 0.5:
        options = {"transparency": int(rng.integers(4))}
    if name in ("GIF", "WEBP") and rng.random() < 0.3:
        options |= {"save_all": True, "append_images": [picture.rotate(180)]}
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    encoded = buffer.getvalue()
    if name == "JPEG":
        # Behind the first segment or before it.
        place = 2 if rng.random() < 0.3 else 4 + struct.unpack(">H", encoded[4:6])[0]
        encoded = encoded[:place] + draw_segments(rng, tiff) + encoded[place:]
    return name, encoded


def damage(rng, encoded):
    """Flips bytes, cuts the end off or repeats a part."""
    way = rng.integers(4)
    if way == 0:
        return encoded[: rng.integers(len(encoded))]
    content = bytearray(encoded)
    for _ in range(rng.integers(1, 4)):
        # The header is where most fields are.
        most = len(content) if rng.random() < 0.5 else min(len(content), 64)
        content[rng.integers(most)] = rng.integers(256)
    if way == 1:
        start = rng.integers(len(content))
        content[start:start] = content[: rng.integers(len(content))]
    return bytes(content)


def read_with_pil(encoded):
    """The central square on white, as PIL reads it, or None if PIL refuses the file."""
    try:
        with Image.open(io.BytesIO(encoded), formats=list(FORMATS)) as image:
            if image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(ImageOps.exif_transpose(image)) >> 8).astype(np.uint8))
            rgba = ImageOps.exif_transpose(image).convert("RGBA")
    except Exception:
        return None
    white = Image.new("RGBA", rgba.size, "white")
    white.alpha_composite(rgba)
    side = min(rgba.size)
    left, top = (rgba.width - side) // 2, (rgba.height - side) // 2
    return np.asarray(white.crop((left, top, left + side, top + side)).convert("RGB"))


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def decode(encoded):
    return decode_image(encoded, SIZE, 3)


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def decode_portably(encoded):
    return decode_image(encoded, SIZE, 3, portable=True)


def run(function, encoded):
    """The pixels and no reason, or nothing and the reason why there are none."""
    try:
        return function(tf.constant(encoded)).numpy().astype(float), ""
    except (tf.errors.InvalidArgumentError, tf.errors.CancelledError) as error:
        return None, explain_error(error)


def name_difference(encoded, is_valid):
    """What is wrong with how a file is read, or an empty text."""
    start = time.process_time()
    (found, reason), (portable, _) = run(decode, encoded), run(decode_portably, encoded)
    if time.process_time() - start > 5:
        return "it takes long"
    if found is None:
        is_told = reason and len(reason.splitlines()) == 1
        return "" if is_told and not is_valid else f"refused: {reason!r}"
    with warnings.catch_warnings():
        # PIL warns of odd metadata.
        warnings.simplefilter("ignore")
        expected = read_with_pil(encoded)
    if expected is None:
        return "PIL refuses it" if is_valid else ""
    if portable is not None and not np.array_equal(found, portable):
        return "the export reads it differently"
    is_jpeg = encoded[:1] == b"\xff"
    if is_jpeg and not is_valid:
        # Two versions of libjpeg guess differently at what is lost.
        return ""
    difference = np.abs(found - resize_images(expected[None], SIZE)[0].numpy()).mean()
    return "" if difference < (8 if is_jpeg else 0.5) else f"the pixels differ by {difference:.1f}"


@pytest.mark.slow
def test_fuzzed_images():
    rng, faults = np.random.default_rng(7), []
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for encoded in (b"", b"BM"):
        # Builds both graphs.
        run(decode, encoded), run(decode_portably, encoded)
    for number in range(2000):
        name, encoded = draw_file(rng)
        is_valid = rng.random() < 0.5
        encoded = encoded if is_valid else damage(rng, encoded)
        if fault := name_difference(encoded, is_valid):
            faults.append(f"{number} {name} {'valid' if is_valid else 'damaged'}: {fault}")
    assert not faults, "\n".join(faults)
    # Earlier tests of this process have had a peak of their own.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before < 2 * 2**20
