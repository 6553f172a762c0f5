"""Size, format and colour of images, from the first bytes of their files."""

import concurrent.futures
import io
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from jtln_tf.data import Files, Images

_CHUNK = 1024


class Header(NamedTuple):
    """What the header of an image file says, in Pillow's names; the format is `pixels` if the image has no file."""

    width: int
    height: int
    format: str
    mode: str

    @property
    def is_gray(self) -> bool:
        """Whether the file has one channel (and perhaps transparency) without a palette."""
        return self.mode in ("1", "L", "LA", "I", "F") or self.mode.startswith("I;")


def read_headers(images: Images, progress: Callable[[int], object]) -> list[Header | None]:
    """Reads the header of every image, None if Pillow finds none; decodes no image.

    `progress` is called with the number of images in each chunk that is done.
    """
    if images.is_decoded:
        height, width, channels = images.values.shape[1:]
        progress(len(images))
        return [Header(width, height, "pixels", "L" if channels == 1 else "RGB")] * len(images)
    headers = []
    with concurrent.futures.ThreadPoolExecutor() as pool, warnings.catch_warnings():
        # Pillow warns of images of more than 89 million pixels, which are not decoded here.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for start in range(0, len(images), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(images)))
            # Of a file, Pillow reads no more than the header.
            is_files = isinstance(images, Files)
            headers += pool.map(_read_header, images[rows] if is_files else map(io.BytesIO, images.contents(rows)))
            progress(len(rows))
    return headers


def _read_header(file):
    try:
        with Image.open(file) as image:
            return Header(*image.size, image.format, image.mode)
    # A damaged header makes Pillow raise errors of many kinds.
    except Exception:
        return None
