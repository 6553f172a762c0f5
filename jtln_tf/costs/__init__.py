"""Class cost matrices: values with the names they belong to, their files, and how they are found."""

from jtln_tf.costs.building import build_cost_matrix, build_online_costs
from jtln_tf.costs.matrix import CostMatrix, load_cost_matrix

__all__ = ["CostMatrix", "build_cost_matrix", "build_online_costs", "load_cost_matrix"]
