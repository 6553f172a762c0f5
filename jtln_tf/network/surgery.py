"""Networks made from another network: its two parts, and a copy."""

import itertools

import keras

from jtln_tf.backbones import clone_model
from jtln_tf.config import SIDES, InputError
from jtln_tf.files import first_line
from jtln_tf.network.heads import call_head
from jtln_tf.network.views import features_model, layer_output


def cut_network(network: keras.Model, layer: str) -> tuple[keras.Model, keras.Model]:
    """Cuts a network in two behind a layer of its backbone; both parts share its weights.

    Returns `(trunk, rest)`: a model from `image` [B, H, W, C] to the layer's output [B, ...], and a network from there
    to the probabilities of both heads, whose parts are named and found like those of the whole. It is an `InputError`
    if there is no such layer, or what is behind it needs more of the image than its output.
    """
    backbone = features_model(network)
    output = layer_output(backbone, layer, "freeze_until")
    rest = _model_behind(backbone, layer)
    if rest is None:
        names = [each.name for each in backbone.layers]
        nearest_first = sorted(names, key=lambda name: abs(names.index(name) - names.index(layer)))
        possible = (name for name in nearest_first if _model_behind(backbone, name))
        raise InputError(
            "`freeze_until` must name a layer whose output is all that `cache_features` needs to keep, such as "
            f"{', '.join(itertools.islice(possible, 3))}. Received: {layer!r}."
        )
    activations = keras.Input(rest.input.shape[1:], name="activations")
    features = rest(activations)
    probabilities = {side: network.get_layer(side)(call_head(network, side, features)) for side in SIDES}
    trunk = keras.Model(backbone.input, output, name="trunk")
    return trunk, keras.Model(activations, probabilities, name="rest")


def copy_network(network: keras.Model) -> keras.Model:
    """Returns an independent copy of a network with the same weights, which is not trained: a teacher."""
    image = keras.Input(network.input.shape[1:], name=network.input.name)
    try:
        copy = clone_model(network, image, image)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise InputError(
            f"A network must have layers that return their configuration to be copied. Received: {first_line(error)}."
        ) from error
    copy.trainable = False
    return copy


def _model_behind(backbone, layer):
    """Returns the part of a backbone behind a layer, or None if it needs more than the layer's output."""
    try:
        output = layer_output(backbone, layer)
        if output is not backbone.output:
            return keras.Model(output, backbone.output, name="backbone")
    except ValueError:
        return None
    features = keras.Input(output.shape[1:])
    return keras.Model(features, keras.layers.Identity()(features), name="backbone")
