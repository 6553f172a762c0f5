"""Pictures of a mean transport plan: from which source classes the mass of each target class comes."""

import typing

import numpy as np

from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.report.cost_matrix import order_by_clustering
from jtln_tf.report.heat_map import draw_heat_map

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of an even share of the mass: a target class that gets less is not matched with anything.
_LEAST_MASS = 0.01


def find_shares(plan: np.ndarray) -> np.ndarray:
    """Returns the share of each target class's mass that comes from each source class, from a plan [n, m].

    NaN for a target class that hardly any mass reaches.
    """
    masses = plan.sum(axis=0, dtype=np.float64)
    is_reached = masses > _LEAST_MASS * masses.mean()
    return np.divide(plan, masses, out=np.full(plan.shape, np.nan), where=is_reached)


def build_plan_figure(plan: CostMatrix, costs: CostMatrix, most_pixels: int = 1200) -> "Figure":
    """Builds the heat map of a mean plan, its rows and columns in the order in which those of the costs are drawn.

    The plan has the form of class costs, and their class names.
    """
    rows, columns = order_by_clustering(costs.values)
    shares = find_shares(plan.values)[np.ix_(rows, columns)]
    gray = "; gray: hardly any mass" if np.isnan(shares).any() else ""
    return draw_heat_map(
        shares,
        [plan.source_classes[row] for row in rows],
        [plan.target_classes[column] for column in columns],
        title=f"Mean transport plan of {describe_images(plan)}\nshare of each target class's mass{gray}",
        colors="YlGnBu",
        limits=(0.0, 1.0),
        form=".2f",
        most_pixels=most_pixels,
    )


def describe_images(plan: CostMatrix) -> str:
    """Returns which images a mean plan is of, such as `256 source images`."""
    return ", ".join(f"{count} {images} images" for images, count in plan.parameters.items())
