"""The class costs of a JTLN run: before training, and from what the network says while it is trained."""

import dataclasses

from absl import logging

from jtln_tf.config import SIDES
from jtln_tf.costs.construction import build_cost_matrix, build_online_costs
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.features.layers import layer_model
from jtln_tf.methods.base import Setup
from jtln_tf.methods.jtln.state import TransportState
from jtln_tf.network import features_model, predictions_model


def prior_costs(setup: Setup) -> CostMatrix | None:
    """Returns the class costs known before training, or None if they are estimated while training.

    Raises `InputError` if the matrix cannot be built, also if that will be done while training.
    """
    if setup.saved_costs is not None:
        return setup.saved_costs
    cost = setup.cost
    if cost.matrix.is_online:
        return None
    if cost.refresh_steps:
        # A rehearsal with one image a class finds what is wrong before anything is written.
        _costs_by_source_head(setup, dataclasses.replace(cost, images_per_class=1))
        return None
    if setup.is_untrained and cost.matrix.looks_through_network:
        warn_of_untrained_backbone(cost.matrix.text)
    domains, network = _find_views(setup)
    return _estimate(setup, domains, cost, layer_model(features_model(network), cost.layer))


def current_costs(step: int, state: TransportState, setup: Setup) -> CostMatrix | None:
    """Returns the class costs by what the network in training says of the images, or None before it has seen any.

    The source head is trained on many labels. Its predictions for the images of a target class relate that class to the
    source classes better than the features do, which overfit the few target labels.
    """
    if not setup.cost.matrix.is_online:
        return _costs_by_source_head(setup, setup.cost)
    if step == 0:
        return None
    means = [state.class_means[side].numpy() for side in SIDES]
    return build_online_costs(*(setup.inputs[side] for side in SIDES), *means, setup.cost)


def warn_of_untrained_backbone(metric: str) -> None:
    """Warns that a metric compares features of a backbone with random weights."""
    logging.warning(
        "the cost matrix %s compares features of a backbone that has learnt nothing yet; a trained backbone knows "
        "more, and so does --cost_matrix=online --cost_refresh_steps=100 in training.",
        metric,
    )


def _find_views(setup):
    """Returns the domains that metrics look at, and the network that they look through.

    These are what training reads, unless a metric needs pixels or a layer inside of a cached trunk.
    """
    layer, behind = setup.cost.layer, [one.name for one in features_model(setup.trained).layers]
    if setup.cost.matrix.looks_at_pixels or (layer and layer not in behind):
        return setup.domains, setup.network
    return setup.inputs, setup.trained


def _costs_by_source_head(setup, cost):
    domains, network = _find_views(setup)
    predictions = predictions_model(network, "source")
    features = layer_model(features_model(network), cost.layer) if cost.layer else predictions
    return _estimate(setup, domains, cost, features, predictions)


def _estimate(setup, domains, cost, features, source_classifier=None):
    return build_cost_matrix(
        *(domains[side] for side in SIDES),
        cost,
        features_model=features,
        source_classifier=source_classifier,
        augmentation=setup.augmentation,
        backbone=setup.backbone,
        seed=setup.seed,
    )
