"""The default: what the images say of the classes and, where these confirm it, what their names say."""

import numpy as np

from jtln_tf.costs.metrics.class_means import compute_class_means
from jtln_tf.costs.metrics.uniform import compute_uniform
from jtln_tf.costs.numerics.support import centre_both, find_support

# Of the names beside the images, once the images confirm them.
_NAMES = 0.5


def compute_auto(evidence) -> tuple[np.ndarray, dict]:
    """Mixes the costs by `class_means` with those by equal names, both centred and divided by their range.

    Names count as far as classes of one name are nearer to each other than if the names changed places at random. If
    they count nothing, the costs are those by `class_means`.
    """
    by_images, parameters = compute_class_means(evidence)
    by_names, _ = compute_uniform(evidence)
    weight = _NAMES * find_support(1.0 - by_names, -by_images)
    if not weight:
        return by_images, parameters | {"names": 0.0}
    mixed = (1 - weight) * _to_unit(by_images) + weight * _to_unit(by_names)
    return mixed, parameters | {"names": weight}


def _to_unit(costs):
    centred = centre_both(np.asarray(costs, np.float64))
    return centred / max(np.ptp(centred), 1e-12)
