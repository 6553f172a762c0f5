"""Networks made from another network: its two parts, and a copy."""

import keras

from jtln_tf.backbones import WHOLE_BACKBONE, clone_model
from jtln_tf.config import SIDES, InputError
from jtln_tf.files import first_line
from jtln_tf.network.heads import call_head
from jtln_tf.network.views import features_model, layer_output, neck_input


def cut_network(network: keras.Model, layer: str) -> tuple[keras.Model, keras.Model]:
    """Cuts a network in two behind a layer of its backbone; both parts share its weights.

    Returns `(trunk, rest)`: a model from `image` [B, H, W, C] to the layer's output [B, ...], and a network from there
    to the probabilities of both heads, whose parts are named and found like those of the whole. It is an `InputError`
    if there is no such layer, or what is behind it needs more of the image than its output. `all` cuts behind the
    features.
    """
    backbone = features_model(network)
    output = neck_input(backbone) if layer == WHOLE_BACKBONE else layer_output(backbone, layer, "freeze_until")
    rest = _model_behind(backbone, output)
    if rest is None:
        names = [each.name for each in backbone.layers]
        possible = sorted(find_cuts(backbone), key=lambda name: abs(names.index(name) - names.index(layer)))
        raise InputError(
            "`freeze_until` must name a layer whose output is all that `cache_features` needs to keep, such as "
            f"{', '.join(possible[:3])}. Received: {layer!r}."
        )
    activations = keras.Input(rest.input.shape[1:], name="activations")
    features = rest(activations)
    probabilities = {side: network.get_layer(side)(call_head(network, side, features)) for side in SIDES}
    trunk = keras.Model(backbone.input, output, name="trunk")
    return trunk, keras.Model(activations, probabilities, name="rest")


def find_cuts(backbone: keras.Model) -> list[str]:
    """Returns the names of the layers behind which `cut_network` can cut, in the order of the forward pass."""
    nodes = [node for _, level in sorted(backbone._nodes_by_depth.items(), reverse=True) for node in level]
    last_use = {id(tensor): place for place, node in enumerate(nodes) for tensor in node.input_tensors}
    names, open_until = [], 0
    for place, node in enumerate(nodes):
        is_layer = isinstance(node.operation, keras.Layer) and len(node.outputs) == 1
        # What was computed before this layer is needed by no layer behind it. A layer that is called twice is cut
        # behind its last call.
        if is_layer and open_until <= place and layer_output(backbone, node.operation.name) is node.outputs[0]:
            names.append(node.operation.name)
        open_until = max([open_until, *(last_use.get(id(tensor), place) for tensor in node.outputs)])
    return names


def describe_layers(backbone: keras.Model) -> list[dict]:
    """Returns name, class, output shape without the batch, number of weights and `can_cut` of each layer, in order."""
    cuts = set(find_cuts(backbone))
    return [
        {
            "name": layer.name,
            "class": type(layer).__name__,
            "output_shape": list(getattr(layer.output, "shape", (None,))[1:]),
            "num_weights": layer.count_params(),
            "can_cut": layer.name in cuts,
        }
        for layer in backbone.layers
    ]


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


def _model_behind(backbone, output):
    """Returns the part of a backbone behind a layer's output, or None if it needs more than that."""
    if output is not backbone.output:
        try:
            return keras.Model(output, backbone.output, name="backbone")
        except ValueError:
            return None
    features = keras.Input(output.shape[1:])
    return keras.Model(features, keras.layers.Identity()(features), name="backbone")
