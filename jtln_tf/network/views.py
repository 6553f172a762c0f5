"""Models that share the weights of a network and return other outputs of it."""

from collections.abc import Sequence

import keras

from jtln_tf.backbones import has_domain_norms, images_of
from jtln_tf.config import SIDES, InputError
from jtln_tf.network.heads import call_head, head_layers


def features_model(network: keras.Model) -> keras.Model:
    """Returns the network's own backbone: images [B, H, W, C] in 0..255 to features [B, D]."""
    return network.get_layer("backbone")


def predictions_model(network: keras.Model, side: str) -> keras.Model:
    """Returns images [B, H, W, C] in 0..255 to the probabilities of one head, `source` [B, n] or `target` [B, m]."""
    return keras.Model(network.input, network.output[side], name=f"{side}_predictions")


def outputs_model(network: keras.Model, layers: Sequence[str] = ()) -> keras.Model:
    """Returns the model that losses are computed from: features, logits and activations of one forward pass.

    It maps the network's input to `{"features": [B, D], "source": [B, n], "target": [B, m]}`. Losses need logits: the
    logarithm of an underflowed probability is minus infinity. With `layers`, names of backbone layers, it also returns
    `"layers"`, a dict of their outputs by name; see `layer_output`.
    """
    backbone = features_model(network)
    image = keras.Input(network.input.shape[1:], name=network.input.name)
    inner = {"features": backbone.output}
    if layers:
        inner["layers"] = {name: layer_output(backbone, name) for name in layers}
    outputs = keras.Model(backbone.input, inner, name="backbone")(image)
    # The heads are called again: if they stand in two networks, their own outputs may belong to the other one.
    logits = {side: call_head(network, side, outputs["features"]) for side in SIDES}
    return keras.Model(image, {**outputs, **logits}, name="outputs")


def layer_output(backbone: keras.Model, name: str, option: str = "layers") -> keras.KerasTensor:
    """Returns the output of a layer in the graph of a backbone.

    A layer that stands in two models has an output in each, and `layer.output` may be that of the other model. If there
    is no such layer, or it does not have one output, the `InputError` names `option`.
    """
    nodes = [node for _, level in sorted(backbone._nodes_by_depth.items()) for node in level]
    nodes = [node for node in nodes if isinstance(node.operation, keras.Layer) and node.operation.name == name]
    if not nodes or len(nodes[0].outputs) != 1:
        kind = "with one output" if nodes else "of the backbone"
        last = backbone.layers[-1].name
        raise InputError(f"`{option}` must name a layer {kind}, such as {last}. Received: {name!r}.")
    return nodes[0].outputs[0]


def domain_view(network: keras.Model, side: str) -> keras.Model:
    """Returns a model with the outputs of a network, or of a part that begins at the images, for one domain's images.

    The network itself takes all images for target images. That matters only if BatchNormalization is separate for each
    domain.
    """
    if side == "target" or not has_domain_norms(network):
        return network
    return _DomainView(network, side)


class _DomainView(keras.Model):
    def __init__(self, network, side):
        super().__init__(name=f"{side}_view")
        self._network, self._side = network, side

    def call(self, images, training=False):
        with images_of(self._side):
            return self._network(images, training=training)

    def get_config(self):
        # Features kept on the disk are found by this.
        return {"network": self._network.get_config(), "side": self._side}


def backbone_variables(network: keras.Model) -> list[keras.Variable]:
    """Returns the trainable variables of the backbone; frozen layers have none."""
    return features_model(network).trainable_variables


def head_variables(network: keras.Model, side: str | None = None) -> list[keras.Variable]:
    """Returns the trainable variables of one head, or of both."""
    layers = [layer for one in (SIDES if side is None else (side,)) for layer in head_layers(network, one)]
    return [variable for layer in layers for variable in layer.trainable_variables]
