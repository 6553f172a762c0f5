"""Images that a network got wrong."""

import dataclasses
import typing
from collections.abc import Mapping, Sequence

import numpy as np

from jtln_tf.data import Split
from jtln_tf.files import escape_name
from jtln_tf.report.captions import find_shown_characters, shorten_name
from jtln_tf.report.images import read_images

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

# Pixels a side that files are decoded to.
_DECODED = 160
# In inches.
_COLUMNS, _WIDTH, _HEIGHT = 4, 2.8, 2.4


@dataclasses.dataclass(frozen=True, eq=False)
class ShownMistake:
    """An image whose class was not predicted: pixels [H, W, C] or None, what it is called, and what was said of it."""

    pixels: np.ndarray | None
    image: str
    label: str
    predicted: str
    probability: float


def read_mistakes(split: Split, class_names: Sequence[str], mistakes: Sequence[Mapping]) -> tuple[ShownMistake, ...]:
    """Returns mistakes with their images, which are read again.

    Args:
        split: What was evaluated.
        class_names: Names of its classes.
        mistakes: `image`, `label`, `predicted` and `probability` of each: see `evaluation.Mistake`.
    """
    pictures = read_images(split, [one["image"] for one in mistakes], _DECODED)
    origin = split.origin
    return tuple(
        ShownMistake(
            pixels,
            f"image {one['image']}" if origin.is_decoded else origin.describe(one["image"]),
            class_names[one["label"]],
            class_names[one["predicted"]],
            one["probability"],
        )
        for one, pixels in zip(mistakes, pictures, strict=True)
    )


def draw_mistakes(mistakes: Sequence[ShownMistake]) -> "Figure":
    """Draws images in rows of four, with their true and predicted classes; those that were not read are left out."""
    # Not pyplot, which would look for a screen.
    from matplotlib.figure import Figure

    can_show = find_shown_characters()
    shown = [one for one in mistakes if one.pixels is not None]
    num_rows = max(1, -(-len(shown) // _COLUMNS))
    figure = Figure(figsize=(_COLUMNS * _WIDTH, num_rows * _HEIGHT), dpi=100)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(num_rows, _COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for one, axes in zip(shown, grid, strict=False):
        axes.imshow(one.pixels, cmap="gray", vmin=0, vmax=255)
        label, predicted = (shorten_name(escape_name(name, can_show)) for name in (one.label, one.predicted))
        title = f"{label}\ntaken for {predicted}\n({100 * one.probability:.0f} %)"
        axes.set_title(title, fontsize=6.5, parse_math=False)
    return figure
