"""The metrics of class costs: one file each, and the registry that names them. Imports no TensorFlow."""

import dataclasses
import typing
from collections.abc import Callable

import numpy as np

from jtln_tf.costs.metrics.auto import compute_auto
from jtln_tf.costs.metrics.class_means import compute_class_means
from jtln_tf.costs.metrics.fisher_mkmmd import compute_fisher_mkmmd
from jtln_tf.costs.metrics.mkmmd import compute_mkmmd
from jtln_tf.costs.metrics.prediction import compute_prediction
from jtln_tf.costs.metrics.taxonomy import compute_taxonomy
from jtln_tf.costs.metrics.text import compute_text
from jtln_tf.costs.metrics.uniform import compute_uniform
from jtln_tf.costs.metrics.wasserstein import compute_wasserstein

if typing.TYPE_CHECKING:
    from jtln_tf.costs.evidence import Evidence


@dataclasses.dataclass(frozen=True)
class Metric:
    """A way to find the costs of two domains' classes.

    Attributes:
        compute: Maps `Evidence` to values [n, m] and to what is needed to find them again (JSON values).
        looks_at: `network` (the images through a network), `pixels`, or `classes` (their names and descriptions).
        is_scaled: Whether the values are centred and scaled if the metric stands alone.
    """

    compute: Callable[["Evidence"], tuple[np.ndarray, dict]]
    looks_at: str
    is_scaled: bool = True


METRICS = {
    "auto": Metric(compute_auto, "network"),
    "class_means": Metric(compute_class_means, "network"),
    "mkmmd": Metric(compute_mkmmd, "network"),
    "wasserstein": Metric(compute_wasserstein, "network"),
    "prediction": Metric(compute_prediction, "network"),
    "fisher_mkmmd": Metric(compute_fisher_mkmmd, "pixels"),
    "text": Metric(compute_text, "classes"),
    "taxonomy": Metric(compute_taxonomy, "classes"),
    "uniform": Metric(compute_uniform, "classes", is_scaled=False),
}
