"""Pictures of class cost matrices: a heat map whose related classes stand together."""

import pathlib
import typing

import numpy as np

from jtln_tf.config import InputError
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.costs.nearest_table import choose_format
from jtln_tf.files import escape_name, open_whole
from jtln_tf.report.captions import find_shown_characters, shorten_name
from jtln_tf.report.heat_map import draw_heat_map

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

# Up to so many classes, leaves are ordered optimally (the time grows faster than the square), or clustered at all (the
# memory grows with the square).
_MOST_ORDERED = 1000
_MOST_CLUSTERED = 5000


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


def build_figure(matrix: CostMatrix, most_pixels: int = 4000) -> "Figure":
    """Builds the heat map of a cost matrix, its rows and columns in the order of `order_by_clustering`.

    The cheapest cells of each column are framed: the source classes nearest to that target class. A column of equal
    costs has no nearest class. If there is no room for every name, every second, third, ... is shown. Neither side has
    more than `most_pixels`.
    """
    rows, columns = order_by_clustering(matrix.values)
    values = matrix.values[np.ix_(rows, columns)].astype(np.float64)
    lowest, highest = values.min(), values.max()
    is_nearest = _find_nearest(values)
    explanation = "framed: the nearest source class of each target class" if is_nearest.any() else ""
    metric = shorten_name(escape_name(matrix.metric, find_shown_characters()))
    return draw_heat_map(
        values,
        [matrix.source_classes[row] for row in rows],
        [matrix.target_classes[column] for column in columns],
        title=f"Class costs, metric: {metric}\n{explanation}",
        colors="YlGnBu_r",
        # Equal costs have no range: the scale then goes from them to twice them.
        limits=(lowest, highest if highest > lowest else lowest + (lowest or 1.0)),
        form=choose_format(values),
        most_pixels=most_pixels,
        frames=is_nearest,
    )
