"""Pictures of class cost matrices: a heat map whose related classes stand together."""

import dataclasses
import pathlib
import typing

import numpy as np

from jtln_tf.config import InputError
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.costs.nearest_table import choose_format
from jtln_tf.files import escape_name, open_whole
from jtln_tf.report.captions import find_shown_characters, shorten_name

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

# Up to so many classes, leaves are ordered optimally (the time grows faster than the square), or clustered at all (the
# memory grows with the square).
_MOST_ORDERED = 1000
_MOST_CLUSTERED = 5000
_DOTS_PER_INCH = 100
# In pixels: the largest cell, and the sides from which a cell has room for a name and for its cost.
_WIDEST_CELL, _NAME_HEIGHT, _ROOM_FOR_COST = 60, 11, 40


def order_by_clustering(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns an order of the rows [n] and columns [m] of costs in which related classes stand together.

    Columns: the leaves of an average-linkage tree of their Euclidean distances, turned so that neighbours are alike.
    Rows: by the position of their nearest column; rows of the same nearest column by a tree of their own. The nearest
    column is one that has the row as its cheapest. If there is none, it is the column with the lowest standardised
    cost: a column that is near to all rows does not tell them apart.

    Reference:
        Bar-Joseph, Gifford, Jaakkola, 2001, Fast optimal leaf ordering for hierarchical clustering, Bioinformatics 17.
    """
    values = np.asarray(values, np.float64)
    rows, columns = _order_leaves(values), _order_leaves(values.T)
    spread = values.std(axis=0)
    scores = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    is_nearest = _find_nearest(values)
    scores[~is_nearest & is_nearest.any(axis=1, keepdims=True)] = np.inf
    return np.lexsort((np.argsort(rows), np.argmin(scores[:, columns], axis=1))), columns


def _order_leaves(items):
    # SciPy is slow to import, and few runs draw.
    from scipy.cluster import hierarchy
    from scipy.spatial import distance

    if not 1 < len(items) <= _MOST_CLUSTERED:
        return np.arange(len(items))
    distances = distance.pdist(items)
    tree = hierarchy.average(distances)
    if len(items) <= _MOST_ORDERED:
        tree = hierarchy.optimal_leaf_ordering(tree, distances)
    order = hierarchy.leaves_list(tree)
    # Both directions are equally good; this one does not depend on the given order.
    return order if items[order[0]].mean() <= items[order[-1]].mean() else order[::-1]


def _find_nearest(values):
    # A column of equal costs has no nearest row.
    return (values == values.min(axis=0)) & (values.min(axis=0) < values.max(axis=0))


def save_picture(matrix: CostMatrix, path: str | pathlib.Path) -> None:
    """Writes the picture of a cost matrix (see `build_figure`) as a `.png` file, whole or not at all."""
    if pathlib.Path(path).suffix != ".png":
        raise InputError(f"`plot` must end in .png. Received: {str(path)!r}.")
    with open_whole(path) as file:
        build_figure(matrix).savefig(file, format="png")


def draw_picture(matrix: CostMatrix) -> np.ndarray:
    """Draws the picture of a cost matrix (see `build_figure`), uint8 [height, width, 3], up to 1,200 pixels a side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(build_figure(matrix, most_pixels=1200))
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def build_figure(matrix: CostMatrix, most_pixels: int = 4000) -> "Figure":
    """Builds the heat map of a cost matrix, its rows and columns in the order of `order_by_clustering`.

    The cheapest cells of each column are framed: the source classes nearest to that target class. A column of equal
    costs has no nearest class. If there is no room for every name, every second, third, ... is shown. Neither side has
    more than `most_pixels`.
    """
    # Not pyplot, which would look for a screen.
    from matplotlib.figure import Figure

    rows, columns = order_by_clustering(matrix.values)
    values = matrix.values[np.ix_(rows, columns)].astype(np.float64)
    can_show = find_shown_characters()
    sources = [shorten_name(escape_name(matrix.source_classes[row], can_show)) for row in rows]
    targets = [shorten_name(escape_name(matrix.target_classes[column], can_show)) for column in columns]
    layout = _plan_layout(sources, targets, most_pixels)

    figure = Figure(figsize=layout.inches, dpi=_DOTS_PER_INCH)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    axes = figure.subplots()
    lowest, highest = values.min(), values.max()
    # Equal costs have no range: the scale then goes from them to twice them.
    highest = highest if highest > lowest else lowest + (lowest or 1.0)
    image = axes.imshow(values, cmap="YlGnBu_r", vmin=lowest, vmax=highest, aspect="auto")
    has_frames = _frame_nearest(axes, values)
    if min(layout.row_height, layout.column_width) >= _ROOM_FOR_COST:
        _write_costs(axes, values, (lowest + highest) / 2)
    _write_names(axes, sources, targets, layout)
    # The colour bar has the same size beside a matrix of any size.
    length = min(1, 300 / layout.height)
    bar = axes.inset_axes([1 + 15 / layout.width, 1 - length, 15 / layout.width, length])
    figure.colorbar(image, cax=bar).ax.tick_params(labelsize=7)
    explanation = "framed: the nearest source class of each target class" if has_frames else ""
    title = f"Class costs, metric: {shorten_name(escape_name(matrix.metric, can_show))}\n{explanation}"
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=9, parse_math=False)
    return figure


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Sizes in pixels: of the matrix, of its cells; and of the whole figure in inches."""

    height: float
    width: float
    row_height: float
    column_width: float
    inches: tuple[float, float]


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


def _frame_nearest(axes, values):
    """Frames the nearest row of each column, and returns whether there is one."""
    from matplotlib.collections import PolyCollection

    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    frames = [np.array([column, row]) + corners for row, column in np.argwhere(_find_nearest(values))]
    collection = PolyCollection(frames, facecolors="none", edgecolors="orangered", linewidths=1.5, clip_on=False)
    axes.add_collection(collection, autolim=False)
    return bool(frames)


def _write_names(axes, sources, targets, layout):
    row_step, column_step = (int(np.ceil(_NAME_HEIGHT / size)) for size in (layout.row_height, layout.column_width))
    text = {"fontsize": 7, "parse_math": False}
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(0, len(targets), column_step), targets[::column_step], rotation=90, **text)
    axes.set_yticks(range(0, len(sources), row_step), sources[::row_step], **text)
    axes.set(xlabel=f"target classes{_tell_step(column_step)}", ylabel=f"source classes{_tell_step(row_step)}")


def _write_costs(axes, values, middle):
    form = choose_format(values)
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value < middle else "black"
        axes.text(column, row, format(value, form), color=color, fontsize=8, ha="center", va="center")


def _tell_step(step):
    return f" (1 name in {step})" if step > 1 else ""
