"""Formats that are not read, told by the first bytes of a file, with what a person can do. Imports no TensorFlow."""

import numpy as np

# Suffixes of photographs that people take for images like any other.
FOREIGN_SUFFIXES = (".heic", ".heif", ".avif", ".jxl", ".jp2")
# The signatures below lie within so many bytes.
START_BYTES = 24
_SAVE = "save it as JPEG or PNG"
_VIDEO = "it is a video or sound, and no image; save a picture of it as JPEG or PNG"
# Reason, place of the signature, signatures. The first that fits counts.
_KINDS = (
    # ISO base media files (ISO/IEC 14496-12) name their kind behind a length.
    (
        f"HEIC images are not read; {_SAVE}",
        4,
        [b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")],
    ),
    (f"AVIF images are not read; {_SAVE}", 4, [b"ftypavif", b"ftypavis"]),
    (f"raw photographs are not read; {_SAVE}", 4, [b"ftypcrx "]),
    (_VIDEO, 4, [b"ftyp", b"moov", b"mdat"]),
    (_VIDEO, 0, [b"\x1aE\xdf\xa3", b"\0\0\1\xba"]),
    (_VIDEO, 8, [b"AVI LIST", b"WAVE"]),
    (f"JPEG XL images are not read; {_SAVE}", 0, [b"\0\0\0\x0cJXL ", b"\xff\x0a"]),
    (f"JPEG 2000 images are not read; {_SAVE}", 0, [b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"]),
    (f"Photoshop files are not read; {_SAVE}", 0, [b"8BPS"]),
    ("SVG images are not read; save it as PNG", 0, [b"<svg"]),
    ("it is an XML file, perhaps an SVG image, which is not read; save it as PNG", 0, [b"<?xml"]),
    ("it is a PDF file, and no image; save a page of it as PNG", 0, [b"%PDF"]),
    (
        "it is a web page, and no image; download the image again",
        0,
        [b"<!DOCTYPE html", b"<!doctype html", b"<!DOCTYPE HTML", b"<html", b"<HTML"],
    ),
    ("it is a pointer of Git LFS, and no image; `git lfs pull` fetches the image", 0, [b"version https://git-lfs"]),
    ("it is an archive, and no image; unpack it", 0, [b"PK\3\4", b"\x1f\x8b\x08", b"Rar!", b"7z\xbc\xaf"]),
)
# Reasons, in their order.
FOREIGN_REASONS = tuple(dict.fromkeys(reason for reason, *_ in _KINDS))


def name_foreign(encoded: bytes) -> str:
    """Returns which format a file has that is not read, and the remedy; an empty text if it is none of those known."""
    for reason, place, signatures in _KINDS:
        if encoded[place:START_BYTES].startswith(tuple(signatures)):
            return reason
    return ""


def signature_table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the signatures as arrays.

    Bytes uint8 [K, `START_BYTES`], which of them count, bool [K, `START_BYTES`], and the position in `FOREIGN_REASONS`
    of each, [K].
    """
    rows = [(reason, place, signature) for reason, place, signatures in _KINDS for signature in signatures]
    content, counts = np.zeros((len(rows), START_BYTES), np.uint8), np.zeros((len(rows), START_BYTES), bool)
    for row, (_, place, signature) in enumerate(rows):
        content[row, place : place + len(signature)] = list(signature)
        counts[row, place : place + len(signature)] = True
    return content, counts, np.array([FOREIGN_REASONS.index(reason) for reason, *_ in rows])
