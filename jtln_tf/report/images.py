"""Images of a data set in a page."""

import contextlib
import io

import numpy as np
from PIL import Image

from jtln_tf.config import InputError
from jtln_tf.data import Split, decode_all
from jtln_tf.report.elements import Element, element, embed

# Smaller ones are kept exactly, and shown with their pixels as squares.
_SMALL = 40
_QUALITY = 85


def read_images(split: Split, rows: list[int], size: int) -> list[np.ndarray | None]:
    """Returns images of a split as they came, uint8 [H, W, C]; None for one that can no longer be read.

    Files and records are decoded to `size` pixels a side; arrays keep their own size. A split of activations gives the
    images that they were made of.
    """
    if not rows:
        return []
    chosen = split.take(rows)
    if chosen.origin.is_decoded:
        return list(np.asarray(chosen.origin.values))
    encoded = Split(chosen.origin, chosen.labels, size, 3, chosen.crop_bottom)
    found = {}
    # A file of records may be damaged or gone.
    with contextlib.suppress(InputError, OSError):
        decode_all(encoded, lambda places, pixels: found.update(zip(places.tolist(), pixels, strict=True)))
    return [found.get(place) for place in range(len(rows))]


def show_image(pixels: np.ndarray | None, size: int, description: str) -> Element:
    """Returns an image, uint8 [H, W, C] with 1 or 3 channels, at a size in pixels; None shows that it is missing."""
    if pixels is None:
        return element("i", f"(can no longer be read: {description})")
    is_small = max(pixels.shape[:2]) <= _SMALL
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if not is_small:
        image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, "png" if is_small else "jpeg", **({} if is_small else {"quality": _QUALITY}))
    address = embed(buffer.getvalue(), "png" if is_small else "jpeg")
    css = "image small" if is_small else "image"
    return element("img", src=address, width=size, height=size, alt=description, title=description, css=css)
