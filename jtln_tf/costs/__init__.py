"""Class cost matrices: values with the names they belong to, their files, and the metrics that fill them. Floor 1."""

from jtln_tf.costs.cost_matrix import CostMatrix, load_cost_matrix
from jtln_tf.costs.mkmmd import mkmmd_cost
from jtln_tf.costs.scaling import double_centre, dual_centre, scale_to_unit_range
from jtln_tf.costs.uniform import uniform_cost

__all__ = [
    "CostMatrix",
    "double_centre",
    "dual_centre",
    "load_cost_matrix",
    "mkmmd_cost",
    "scale_to_unit_range",
    "uniform_cost",
]
