"""A split and a model to feature arrays."""

from jtln_tf.features.class_features import (
    FeatureCache,
    choose_views,
    extract_activations,
    extract_class_features,
    fingerprint_model,
    layer_model,
    stream_class_features,
)

__all__ = [
    "FeatureCache",
    "choose_views",
    "extract_activations",
    "extract_class_features",
    "fingerprint_model",
    "layer_model",
    "stream_class_features",
]
