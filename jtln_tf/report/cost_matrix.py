"""Seeing a class cost matrix: as a heat map, and as a table of the nearest classes."""

import io
import os
import pathlib

import numpy as np

from jtln_tf.config import InputError
from jtln_tf.files import escape_name
from jtln_tf.report.captions import find_shown_characters, shorten_name

# Classes up to which leaves are ordered optimally (the time grows faster than the square), and clustered at all (the
# memory grows with the square).
_MOST_ORDERED = 1000
_MOST_CLUSTERED = 5000
_DOTS_PER_INCH = 100
# In pixels. A cell is no larger than the widest, and has a name of its own where it has room for one.
_WIDEST_CELL, _NAME_HEIGHT, _ROOM_FOR_COST = 60, 11, 40
_ORDINALS = ("nearest", "second", "third")


def order_by_clustering(values):
    """Finds an order of rows and columns in which related classes stand together, along a diagonal where there is one.

    Columns: the leaves of an average-linkage tree of their Euclidean distances, turned so that neighbours are alike.
    Rows: by the position of their nearest column, where that is the same by their own tree. Nearest is the column that
    has the row for its cheapest; for a row that is no column's cheapest, the one whose costs, standardised, are lowest:
    a column that is near to all rows does not tell them apart.

    Args:
        values: Finite costs [n, m].

    Returns:
        The order of the rows [n] and of the columns [m]: indices into the given ones.

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
    # Slow to import, and few runs draw.
    from scipy.cluster import hierarchy
    from scipy.spatial import distance

    if not 1 < len(items) <= _MOST_CLUSTERED:
        return np.arange(len(items))
    distances = distance.pdist(items)
    tree = hierarchy.average(distances)
    if len(items) <= _MOST_ORDERED:
        tree = hierarchy.optimal_leaf_ordering(tree, distances)
    order = hierarchy.leaves_list(tree)
    # Either direction is as good; this one does not depend on the given order.
    return order if items[order[0]].mean() <= items[order[-1]].mean() else order[::-1]


def _find_nearest(values):
    # A column whose costs are all the same has no nearest row.
    return (values == values.min(axis=0)) & (values.min(axis=0) < values.max(axis=0))


def save_picture(matrix, path):
    """Writes the picture of a cost matrix (see `build_figure`) as a `.png` file, whole or not at all.

    Raises:
        InputError: If the path does not end in .png.
    """
    path = pathlib.Path(path)
    if path.suffix != ".png":
        raise InputError(f"`plot` must end in .png. Received: {str(path)!r}.")
    buffer = io.BytesIO()
    build_figure(matrix).savefig(buffer, format="png")
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        unfinished.write_bytes(buffer.getvalue())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def draw_picture(matrix):
    """Draws the picture of a cost matrix (see `build_figure`) of at most 1,200 pixels a side.

    Returns:
        uint8 [height, width, 3].
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(build_figure(matrix, most_pixels=1200))
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def build_figure(matrix, most_pixels=4000):
    """Builds the heat map of a cost matrix, its rows and columns in the order of `order_by_clustering`.

    The cheapest cells of each column are framed: the source classes nearest to that target class. A column whose costs
    are all the same has no nearest class. Where there is no room for every name, every second, third, ... is shown.

    Args:
        matrix: `CostMatrix`.
        most_pixels: Largest width and height.

    Returns:
        `matplotlib.figure.Figure`.
    """
    # The object interface: pyplot would look for a screen.
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure

    rows, columns = order_by_clustering(matrix.values)
    values = matrix.values[np.ix_(rows, columns)].astype(np.float64)
    can_show = find_shown_characters()
    sources = [shorten_name(escape_name(matrix.source_classes[row], can_show)) for row in rows]
    targets = [shorten_name(escape_name(matrix.target_classes[column], can_show)) for column in columns]
    margins = [6 * max(map(len, names)) + 140 for names in (targets, sources)]
    cell = np.clip(700 / max(values.shape), _NAME_HEIGHT + 1, _WIDEST_CELL)
    sides = [
        np.clip(count * cell, 200, most_pixels - margin) for count, margin in zip(values.shape, margins, strict=True)
    ]
    row_height, column_width = (side / count for side, count in zip(sides, values.shape, strict=True))
    height, width = (side + margin for side, margin in zip(sides, margins, strict=True))

    figure = Figure(figsize=(max(width, 600) / _DOTS_PER_INCH, height / _DOTS_PER_INCH), dpi=_DOTS_PER_INCH)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    axes = figure.subplots()
    lowest, highest = values.min(), values.max()
    # Equal costs have no range: the scale then goes from them to twice them.
    highest = highest if highest > lowest else lowest + (lowest or 1.0)
    image = axes.imshow(values, cmap="YlGnBu_r", vmin=lowest, vmax=highest, aspect="auto")
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    frames = [np.array([column, row]) + corners for row, column in np.argwhere(_find_nearest(values))]
    axes.add_collection(
        PolyCollection(frames, facecolors="none", edgecolors="orangered", linewidths=1.5, clip_on=False), autolim=False
    )
    if min(row_height, column_width) >= _ROOM_FOR_COST:
        _write_costs(axes, values, (lowest + highest) / 2)
    row_step, column_step = (int(np.ceil(_NAME_HEIGHT / size)) for size in (row_height, column_width))
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(
        range(0, len(targets), column_step), targets[::column_step], rotation=90, fontsize=7, parse_math=False
    )
    axes.set_yticks(range(0, len(sources), row_step), sources[::row_step], fontsize=7, parse_math=False)
    axes.set(xlabel=f"target classes{_tell_step(column_step)}", ylabel=f"source classes{_tell_step(row_step)}")
    # Of the same size beside a matrix of any size.
    bar = axes.inset_axes([1 + 15 / sides[1], 1 - min(1, 300 / sides[0]), 15 / sides[1], min(1, 300 / sides[0])])
    figure.colorbar(image, cax=bar).ax.tick_params(labelsize=7)
    metric = shorten_name(escape_name(matrix.metric, can_show))
    figure.suptitle(
        f"Class costs, metric: {metric}\n{'framed: the nearest source class of each target class' if frames else ''}",
        x=0.01,
        horizontalalignment="left",
        fontsize=9,
        parse_math=False,
    )
    return figure


def format_nearest(matrix, count=3):
    """Formats the `count` nearest source classes of each target class, with their costs, as a Markdown table.

    The heading names the metric and those of its parameters that are single values.
    """
    nearest = matrix.nearest(count)
    ranks = range(min(count, len(matrix.source_classes)))
    titles = ["target class", *(_ORDINALS[rank] if rank < len(_ORDINALS) else f"no. {rank + 1}" for rank in ranks)]
    known = [f"{key}: {value}" for key, value in matrix.parameters.items() if isinstance(value, str | int | float)]
    details = f" ({', '.join(known)})" if known else ""
    lines = [
        f"## Nearest source classes by {_escape_markdown(matrix.metric + details)}",
        "",
        f"| {' | '.join(titles)} |",
        "|---" * len(titles) + "|",
    ]
    positions = {name: row for row, name in enumerate(matrix.source_classes)}
    form = _choose_form(matrix.values)
    for column, (target, sources) in enumerate(nearest.items()):
        costs = [format(matrix.values[positions[source], column], form) for source in sources]
        cells = [f"{_escape_markdown(source)} {cost}" for source, cost in zip(sources, costs, strict=True)]
        lines.append(f"| {' | '.join([_escape_markdown(target), *cells])} |")
    return "\n".join(lines)


def _write_costs(axes, values, middle):
    form = _choose_form(values)
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value < middle else "black"
        axes.text(column, row, format(value, form), color=color, fontsize=8, ha="center", va="center")


def _choose_form(values):
    highest = values.max()
    return ".2f" if highest == 0 or 0.1 <= highest < 1e4 else ".1e"


def _tell_step(step):
    return f" (1 name in {step})" if step > 1 else ""


def _escape_markdown(text):
    marked = "".join(f"\\{character}" if character in "\\|`*[" else character for character in text)
    # Not every dialect has a backslash before this one.
    return "".join(escape_name(marked)).replace("<", "&lt;")
