"""A few images of each class of a domain in one picture."""

import functools
import io
import math
import os
from typing import TYPE_CHECKING

import numpy as np

from jtln_tf.data import DividedDomain, decode_all, open_split
from jtln_tf.files import escape_name, write_whole
from jtln_tf.report.captions import find_shown_characters, shorten_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_IMAGES_PER_CLASS = 5
# With more classes the picture would be larger than a screen can show.
_MOST_CLASSES = 160
# In pixels.
_IMAGE, _GAP, _MARGIN, _TITLE = 64, 4, 16, 40
_CELL = _IMAGE + _GAP
_DOTS_PER_INCH = 100
_FONT_SIZE = 9
# The width over the height that the columns of classes should come near to.
_SHAPE = 1.5


def save_contact_sheet(domain: DividedDomain, path: str | os.PathLike, *, seed: int = 0) -> None:
    """Writes a `.png` file with a few training images of each class, drawn by the seed; whole or not at all."""
    buffer = io.BytesIO()
    build_figure(domain, seed).savefig(buffer, format="png")
    write_whole(path, buffer.getvalue())


def build_figure(domain: DividedDomain, seed: int = 0) -> "Figure":
    """Builds the picture: a row for each class, in columns. Of a very long list, classes evenly spread over it.

    Images are shown as a network gets them: the central square. Those that cannot be decoded are left out.
    """
    # Not pyplot, which looks for a screen.
    from matplotlib.figure import Figure

    spec, listing, splits = domain
    names = listing.class_names
    labels = np.linspace(0, len(names) - 1, min(len(names), _MOST_CLASSES)).round().astype(int)
    can_show = find_shown_characters()
    captions = [shorten_name(escape_name(names[label], can_show)) for label in labels]
    title = _format_title("".join(escape_name(spec.text, can_show)), len(labels), len(names), seed)
    drawn = _draw_images(spec, splits["train"], labels, seed)
    rows, lefts, width = _place(captions, max(1, *map(len, drawn)) * _CELL)
    width, height = max(width, _measure(title) + 2 * _MARGIN), _TITLE + rows * _CELL + _MARGIN

    figure = Figure(figsize=(width / _DOTS_PER_INCH, height / _DOTS_PER_INCH), dpi=_DOTS_PER_INCH)
    canvas = np.full((height, width, 3), 255, np.uint8)

    def write(text, left, top, alignment):
        options = {"horizontalalignment": alignment, "verticalalignment": "center", "parse_math": False}
        figure.text(left / width, 1 - top / height, text, fontsize=_FONT_SIZE, **options)

    write(title, _MARGIN, _TITLE // 2, "left")
    for position, images in enumerate(drawn):
        column, row = divmod(position, rows)
        left, top = lefts[column], _TITLE + row * _CELL
        write(captions[position], left - 2 * _GAP, top + _IMAGE // 2, "right")
        for begin, image in zip(range(left, width, _CELL), images, strict=False):
            canvas[top : top + _IMAGE, begin : begin + _IMAGE] = image
    figure.figimage(canvas)
    return figure


def _place(captions, row_width):
    """Returns the number of rows, the left side of the images in each column, and the width of all, in pixels."""
    widths = np.array([_measure(caption) for caption in captions]) + 2 * _GAP + row_width + _MARGIN
    choices = []
    # Only numbers of rows that fill the columns as evenly as possible.
    for rows in {math.ceil(len(captions) / columns) for columns in range(1, len(captions) + 1)}:
        ends = _MARGIN + np.cumsum(np.maximum.reduceat(widths, range(0, len(captions), rows)))
        choices.append((abs(math.log(ends[-1] / (rows * _CELL) / _SHAPE)), rows, ends))
    _, rows, ends = min(choices, key=lambda choice: choice[:2])
    return rows, (ends - _MARGIN - row_width).tolist(), int(ends[-1])


def _measure(text):
    """Returns the width of a text in pixels."""
    from matplotlib.font_manager import FontProperties

    return math.ceil(_renderer().get_text_width_height_descent(text, FontProperties(size=_FONT_SIZE), False)[0])


@functools.cache
def _renderer():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    return FigureCanvasAgg(Figure(dpi=_DOTS_PER_INCH)).get_renderer()


def _format_title(name, count, total, seed):
    shown = f"{total:,} classes" if count == total else f"{count:,} of {total:,} classes, evenly spread over the list"
    return f"{name}: {shown}, up to {_IMAGES_PER_CLASS} training images of each (seed {seed})"


def _draw_images(spec, examples, labels, seed):
    """Returns a list of images [_IMAGE, _IMAGE, 3] for each label."""
    drawn = []
    for label in labels:
        found = np.flatnonzero(examples.labels == label)
        drawn.append(np.random.default_rng((seed, label)).permutation(found)[:_IMAGES_PER_CLASS])
    split = open_split(examples.take(np.concatenate(drawn)), _IMAGE, 3, crop_bottom=spec.crop_bottom)
    images = {}
    decode_all(split, lambda rows, pixels: images.update(zip(rows.tolist(), pixels, strict=True)))
    ends = np.cumsum([0, *map(len, drawn)])
    return [[images[row] for row in range(*span) if row in images] for span in zip(ends, ends[1:], strict=False)]
