"""The cost matrix of a run over its steps, and the mean transport plan at its end."""

import numpy as np

from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.monitoring.run_log import RunLog
from jtln_tf.report.cost_matrix import build_figure
from jtln_tf.report.heat_map import draw_pixels
from jtln_tf.report.transport_plan import build_plan_figure


def log_costs(log: RunLog, step: int, costs: CostMatrix, before: np.ndarray | None = None) -> None:
    """Writes a new cost matrix to the log: how far it has drifted, and a picture if nearest classes have changed.

    `cost_drift` is the mean absolute change of an entry, `cost_nearest_changed` the share of the target classes that
    have another nearest source class than in the values `before` [n, m]. The matrix is used from the given step on.
    """
    nearest_changed = 1.0
    if before is not None:
        nearest_changed = np.mean(costs.values.argmin(axis=0) != before.argmin(axis=0))
        log.write(step, {"cost_drift": np.abs(costs.values - before).mean(), "cost_nearest_changed": nearest_changed})
    # Drawing takes as long as some dozens of small training steps.
    if nearest_changed:
        log.write_image(step, "cost_matrix", draw_pixels(build_figure(costs, most_pixels=1200)))


def log_matches(log: RunLog, step: int, costs: CostMatrix, plan: CostMatrix | None) -> None:
    """Draws the class costs and, if there is one, the mean transport plan, which has their form and class names."""
    log.write_image(step, "cost_matrix", draw_pixels(build_figure(costs, most_pixels=1200)))
    if plan is not None:
        log.write_image(step, "mean_plan", draw_pixels(build_plan_figure(plan, costs)))
