"""Heat maps of values of source and target classes, with room for the names of both."""

import dataclasses
import typing
from collections.abc import Sequence

import numpy as np

from jtln_tf.files import escape_name
from jtln_tf.report.captions import find_shown_characters, shorten_name

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 100
# In pixels: the largest cell, and the sides from which a cell has room for a name and for its value.
_WIDEST_CELL, _NAME_HEIGHT, _ROOM_FOR_VALUE = 60, 11, 40
# Weights of red, green and blue in the brightness of a colour.
_BRIGHTNESS = (0.3, 0.59, 0.11)


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Sizes in pixels: of the matrix, of its cells; and of the whole figure in inches."""

    height: float
    width: float
    row_height: float
    column_width: float
    inches: tuple[float, float]


def draw_heat_map(
    values: np.ndarray,
    source_classes: Sequence[str],
    target_classes: Sequence[str],
    *,
    title: str,
    colors: str,
    limits: tuple[float, float],
    form: str,
    most_pixels: int,
    frames: np.ndarray | None = None,
) -> "Figure":
    """Draws values [n, m] of source classes (rows) and target classes; NaN is gray.

    If there is no room for every name, every second, third, ... is shown.

    Args:
        values: The values.
        source_classes: Names of the rows.
        target_classes: Names of the columns.
        title: One or two lines.
        colors: Name of matplotlib's colour map.
        limits: Values at the ends of the colours.
        form: How a value is written into its cell, if there is room.
        most_pixels: The longest side of the figure.
        frames: Whether a cell is framed, [n, m]; None frames none.
    """
    # Not pyplot, which would look for a screen.
    from matplotlib.figure import Figure

    can_show = find_shown_characters()
    sources, targets = (
        [shorten_name(escape_name(name, can_show)) for name in names] for names in (source_classes, target_classes)
    )
    layout = _plan_layout(sources, targets, most_pixels)
    figure = Figure(figsize=layout.inches, dpi=_DOTS_PER_INCH)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    axes = figure.subplots()
    axes.set_facecolor("0.85")
    image = axes.imshow(values, cmap=colors, vmin=limits[0], vmax=limits[1], aspect="auto")
    if frames is not None:
        _frame(axes, frames)
    if min(layout.row_height, layout.column_width) >= _ROOM_FOR_VALUE:
        _write_values(axes, image, values, form)
    _write_names(axes, sources, targets, layout)
    # The colour bar has the same size beside a matrix of any size.
    length = min(1, 300 / layout.height)
    bar = axes.inset_axes([1 + 15 / layout.width, 1 - length, 15 / layout.width, length])
    figure.colorbar(image, cax=bar).ax.tick_params(labelsize=7)
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=9, parse_math=False)
    return figure


def draw_pixels(figure: "Figure") -> np.ndarray:
    """Draws a figure, uint8 [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _plan_layout(sources, targets, most_pixels):
    counts = (len(sources), len(targets))
    cell = np.clip(700 / max(counts), _NAME_HEIGHT + 1, _WIDEST_CELL)
    # Names of columns stand above the matrix, those of rows beside it.
    margins = [6 * max(map(len, names)) + 140 for names in (targets, sources)]
    height, width = (
        np.clip(count * cell, 200, most_pixels - margin) for count, margin in zip(counts, margins, strict=True)
    )
    inches = (max(width + margins[1], 600) / _DOTS_PER_INCH, (height + margins[0]) / _DOTS_PER_INCH)
    return _Layout(height, width, height / counts[0], width / counts[1], inches)


def _frame(axes, is_framed):
    from matplotlib.collections import PolyCollection

    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    frames = [np.array([column, row]) + corners for row, column in np.argwhere(is_framed)]
    collection = PolyCollection(frames, facecolors="none", edgecolors="orangered", linewidths=1.5, clip_on=False)
    axes.add_collection(collection, autolim=False)


def _write_names(axes, sources, targets, layout):
    row_step, column_step = (int(np.ceil(_NAME_HEIGHT / size)) for size in (layout.row_height, layout.column_width))
    text = {"fontsize": 7, "parse_math": False}
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(0, len(targets), column_step), targets[::column_step], rotation=90, **text)
    axes.set_yticks(range(0, len(sources), row_step), sources[::row_step], **text)
    axes.set(xlabel=f"target classes{_tell_step(column_step)}", ylabel=f"source classes{_tell_step(row_step)}")


def _write_values(axes, image, values, form):
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            is_dark = np.dot(image.to_rgba(value)[:3], _BRIGHTNESS) < 0.5
            options = {"fontsize": 8, "ha": "center", "va": "center", "color": "white" if is_dark else "black"}
            axes.text(column, row, format(value, form), **options)


def _tell_step(step):
    return f" (1 name in {step})" if step > 1 else ""
