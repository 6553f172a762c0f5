"""Two domains to the class cost matrix that a specification asks for. Floor 3."""

from jtln_tf.cost_building.building import build_cost_matrix, build_online_costs

__all__ = ["build_cost_matrix", "build_online_costs"]
