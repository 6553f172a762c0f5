"""The start of JTLN: neck and target head follow how far the classes of the two domains agree."""

import dataclasses
import logging

import keras
import numpy as np

from jtln_tf.config import SIDES
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.costs.numerics.support import find_support
from jtln_tf.features.start import SHRINKAGE, gather_class_sums, imprint_heads, start_neck
from jtln_tf.methods.base import Setup
from jtln_tf.methods.jtln.agreement import Agreement, find_agreement
from jtln_tf.methods.jtln.costs import prior_costs

_LOG = logging.getLogger("jtln_tf")
# Weight of agreeing source classes beside the target class itself. 1 to 4 were tried on images that no table is made
# with, 1 to 10 labels a class: with few labels more helps, with 10 less does.
_SOURCE_WEIGHT = 2.0
# Shrinkage of the covariance if all classes agree. The target then shows the same things in another style, in which
# they vary in other directions than in the source. On such images .9 was as good as the better of .5 and 1, or better.
_SHRINKAGE_IF_AGREED = 0.9


def follow_agreement(setup: Setup, costs: CostMatrix) -> CostMatrix:
    """Lets a strong start follow the agreement of the classes, and returns the costs as they are after that.

    The more the classes agree, the less the neck whitens, and the more each target class takes over from the source
    classes that agree with it. Costs that the images do not confirm are trusted less, or not at all. Without a strong
    start nothing changes.
    """
    agreement = find_agreement(costs.values)
    if not setup.has_strong_start or not agreement.strength:
        return costs
    source, target = _class_means(setup.trained)
    trust = find_support(agreement.shares, source @ target.T)
    if trust < 1:
        _LOG.warning(
            "the images do not confirm which classes belong together by --cost_matrix=%s, so it is trusted by %.0f %%.",
            *(setup.cost.matrix.text, 100 * trust),
        )
    costs, agreement = dataclasses.replace(costs, trust=trust), agreement.trusted(trust)
    found = {"trust": round(trust, 3)}
    if setup.neck == "whitened":
        shrinkage = SHRINKAGE + agreement.strength * (_SHRINKAGE_IF_AGREED - SHRINKAGE)
        # A resumed run whose costs were lost has not started its neck.
        sums = setup.class_sums or gather_class_sums(setup.trained, setup.inputs)
        start_neck(setup.trained, sums, is_whitened=True, shrinkage=shrinkage)
        imprint_heads(setup.trained, setup.inputs)
        found["neck_shrinkage"] = round(shrinkage, 3)
        costs = dataclasses.replace(prior_costs(setup), trust=trust)
        agreement = find_agreement(costs.values).trusted(trust)
    take_over_classes(setup.trained, agreement)
    return dataclasses.replace(costs, parameters={**costs.parameters, **found})


def take_over_classes(network: keras.Model, agreement: Agreement) -> None:
    """Adds to the weights of each target class those of the source classes, by how far they agree.

    Both heads must hold class means.
    """
    source, target = _class_means(network)
    taken = _SOURCE_WEIGHT * agreement.strength * agreement.shares.T @ source
    network.get_layer("target_logits").set_classes(target + taken)


def _class_means(network):
    """Returns the weights of the classes of both heads, [n, D] and [m, D]."""
    return [np.asarray(network.get_layer(f"{side}_logits").kernel).T for side in SIDES]
