"""Size, format and colour of images, from the first bytes of their files."""

import concurrent.futures
import io
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from jtln_tf.data import Split, read_files

_CHUNK = 1024


class Header(NamedTuple):
    """What the header of an image file says.

    Attributes:
        width: Columns of pixels.
        height: Rows of pixels.
        format: Pillow's name of the format: JPEG, PNG, ...; `pixels` if the image has no file.
        mode: Pillow's name of the kind of pixel: L, RGB, P, ...
    """

    width: int
    height: int
    format: str
    mode: str

    @property
    def is_gray(self) -> bool:
        """Whether the file has one channel (and perhaps transparency) without a palette."""
        return self.mode in ("1", "L", "LA", "I", "F") or self.mode.startswith("I;")


def read_headers(split: Split, progress: Callable[[int], object] | None = None) -> list[Header | None]:
    """Reads the header of every image of a split that is not decoded; decodes none.

    Args:
        split: The images.
        progress: Called with the number of images in each chunk that is done.

    Returns:
        One header an image, or None if Pillow finds none.
    """
    headers = []
    with concurrent.futures.ThreadPoolExecutor() as pool, warnings.catch_warnings():
        # Pillow warns of images of more than 89 million pixels, which are not decoded here.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for start in range(0, len(split), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(split)))
            paths = [image for image in split.images[rows] if isinstance(image, str)]
            headers.extend(pool.map(_read_header, paths or map(io.BytesIO, read_files(split, rows))))
            if progress:
                progress(len(rows))
    return headers


def _read_header(file):
    try:
        with Image.open(file) as image:
            return Header(*image.size, image.format, image.mode)
    # A damaged header makes Pillow raise errors of many kinds.
    except Exception:
        return None
