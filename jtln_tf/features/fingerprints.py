"""Fingerprints of models: texts that change with their layers or weights."""

import hashlib
import json

import keras
import numpy as np


def fingerprint_model(model: keras.Model) -> str:
    """Returns hex digits that are the same for a model of the same layers and weights."""
    digest = hashlib.sha256(_describe(model).encode())
    for variable in model.variables:
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()[:16]


def _describe(model):
    try:
        return model.to_json()
    except (AttributeError, TypeError, NotImplementedError):
        # Some layers of KerasHub have no configuration. A view of a network carries its side in its name.
        return " ".join([model.name, *map(_describe_layer, model.layers)])


def _describe_layer(layer):
    shapes = [list(variable.shape) for variable in layer.variables]
    try:
        config = json.dumps(layer.get_config(), sort_keys=True, default=lambda value: type(value).__name__)
    except (AttributeError, TypeError, NotImplementedError):
        config = " ".join(map(_describe_layer, getattr(layer, "layers", [])))
    return f"{type(layer).__name__} {layer.name} {shapes} {config}"
