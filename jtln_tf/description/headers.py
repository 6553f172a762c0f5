"""Size, format and colour of images, from the first bytes of their files. Uses no TensorFlow."""

import concurrent.futures
import io
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image

from jtln_tf.data import read_files

_AT_ONCE = 1024


class Header(NamedTuple):
    """What the header of an image file says.

    Attributes:
        width: Columns of pixels.
        height: Rows of pixels.
        format: Pillow's name of the format: JPEG, PNG, ...; `pixels` where there is no file.
        mode: Pillow's name of the kind of pixel: L, RGB, P, ...
    """

    width: int
    height: int
    format: str
    mode: str

    @property
    def is_gray(self):
        """Whether the file has one channel (and perhaps transparency) without a palette."""
        return self.mode in ("1", "L", "LA", "I", "F") or self.mode.startswith("I;")


def read_headers(split, progress=None):
    """Reads the header of every image of a split that is not decoded; decodes none.

    Args:
        split: `Split`.
        progress: Called with the number of images of each chunk that is done, or None.

    Returns:
        A list of one `Header` an image, None where Pillow finds none.
    """
    headers = []
    with concurrent.futures.ThreadPoolExecutor() as pool, warnings.catch_warnings():
        # Of images of more than 89 million pixels: they are not decoded here.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for start in range(0, len(split), _AT_ONCE):
            rows = np.arange(start, min(start + _AT_ONCE, len(split)))
            paths = [image for image in split.images[rows] if isinstance(image, str)]
            headers.extend(pool.map(_read_header, paths or map(io.BytesIO, read_files(split, rows))))
            if progress:
                progress(len(rows))
    return headers


def _read_header(file):
    try:
        with Image.open(file) as image:
            return Header(*image.size, image.format, image.mode)
    # What a damaged header makes Pillow raise is its own affair.
    except Exception:
        return None
