"""The network: one shared backbone and two softmax heads, and views of its parts."""

from jtln_tf.network.build import (
    SIDES,
    backbone_variables,
    build_network,
    cut_network,
    domain_view,
    features_model,
    head_variables,
    logits_model,
    predictions_model,
)

__all__ = [
    "SIDES",
    "backbone_variables",
    "build_network",
    "cut_network",
    "domain_view",
    "features_model",
    "head_variables",
    "logits_model",
    "predictions_model",
]
