"""A few images of each class of a domain in one picture."""

import functools
import io
import math

import numpy as np

from jtln_tf.data import decode_all, open_split
from jtln_tf.files import escape_name, write_whole
from jtln_tf.report.captions import find_shown_characters, shorten_name

_IMAGES_PER_CLASS = 5
# Beyond so many classes the picture would be larger than a screen can show.
_MOST_CLASSES = 160
# In pixels.
_IMAGE, _GAP, _MARGIN, _TITLE = 64, 4, 16, 40
_CELL = _IMAGE + _GAP
_DOTS_PER_INCH = 100
_FONT_SIZE = 9
# Width over height that the columns of classes are to come near to.
_SHAPE = 1.5


def save_contact_sheet(domain, path, *, seed=0):
    """Writes a `.png` file with a few training images of each class, whole or not at all.

    Args:
        domain: `DividedDomain`.
        path: File to write.
        seed: Seed of the draw of the images.
    """
    buffer = io.BytesIO()
    build_figure(domain, seed).savefig(buffer, format="png")
    write_whole(path, buffer.getvalue())


def build_figure(domain, seed=0):
    """Builds the picture: a row for each class, in columns; of long lists of classes some, evenly spread over them.

    Images are as a network would get them: the central square. Those that cannot be decoded are left out.

    Args:
        domain: `DividedDomain`.
        seed: Seed of the draw of the images.

    Returns:
        `matplotlib.figure.Figure`.
    """
    # The object interface: pyplot would look for a screen.
    from matplotlib.figure import Figure

    names = domain.listing.class_names
    count = min(len(names), _MOST_CLASSES)
    labels = np.linspace(0, len(names) - 1, count).round().astype(int)
    can_show = find_shown_characters()
    captions = [shorten_name(escape_name(names[label], can_show)) for label in labels]
    title = _format_title(domain, count, seed, can_show)
    drawn = _draw_images(domain, labels, seed)
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
    """Chooses how many rows there are, the left side of the images of each column, and the width of all, in pixels."""
    widths = np.array([_measure(caption) for caption in captions]) + 2 * _GAP + row_width + _MARGIN
    choices = []
    # Not every number: columns are of one height, as far as they can be.
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


def _format_title(domain, count, seed, can_show):
    total = len(domain.listing.class_names)
    shown = f"{total:,} classes" if count == total else f"{count:,} of {total:,} classes, evenly spread over the list"
    name = "".join(escape_name(domain.spec.text, can_show))
    return f"{name}: {shown}, up to {_IMAGES_PER_CLASS} training images of each (seed {seed})"


def _draw_images(domain, labels, seed):
    """Returns lists of images [_IMAGE, _IMAGE, 3], one for each of the labels."""
    examples = domain.splits["train"]
    drawn = []
    for label in labels:
        found = np.flatnonzero(examples.labels == label)
        drawn.append(np.random.default_rng((seed, label)).permutation(found)[:_IMAGES_PER_CLASS])
    split = open_split(
        domain.listing, examples.take(np.concatenate(drawn)), _IMAGE, 3, crop_bottom=domain.spec.crop_bottom
    )
    images = {}
    decode_all(split, lambda rows, pixels: images.update(zip(rows.tolist(), pixels, strict=True)))
    ends = np.cumsum([0, *map(len, drawn)])
    return [
        [images[row] for row in range(begin, end) if row in images] for begin, end in zip(ends, ends[1:], strict=False)
    ]
