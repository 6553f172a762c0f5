import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image

from jtln_tf.data import Files
from jtln_tf.description.headers import read_headers

GRAY = [("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("I;16", "PNG"), ("L", "JPEG")]
COLOUR = [("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("P", "GIF"), ("RGB", "BMP")]


def encode(mode, file_format):
    buffer = io.BytesIO()
    Image.new(mode, (3, 2)).save(buffer, file_format)
    return buffer.getvalue()


def test_headers_of_all_kinds(tmp_path):
    # The header of 144 million pixels, of which there are none.
    header = b"IHDR" + struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0)
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    huge += struct.pack(">I", 8) + b"IDAT"
    encoded = [encode(*kind) for kind in GRAY + COLOUR] + [huge, b"", b"\xff\xd8\xff", huge[:20]]
    paths, done = [str(tmp_path / f"{row}") for row in range(len(encoded))], []
    for path, content in zip(paths, encoded, strict=True):
        pathlib.Path(path).write_bytes(content)
    headers = read_headers(Files(np.array(paths, object)), done.append)
    known = headers[:-4]
    assert [header.format for header in known] == [one for _, one in GRAY + COLOUR]
    assert [header.is_gray for header in known] == [True] * len(GRAY) + [False] * len(COLOUR)
    assert {header[:2] for header in known} == {(3, 2)}
    assert headers[-4:] == [(12_000, 12_000, "PNG", "RGB"), None, None, None]
    assert sum(done) == len(paths)
