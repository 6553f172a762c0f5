"""Models that share the weights of a network and return other outputs of it."""

from collections.abc import Sequence

import keras

from jtln_tf.backbones import has_domain_norms, images_of
from jtln_tf.config import SIDES, InputError
from jtln_tf.network.heads import call_head, head_layers
from jtln_tf.network.neck import Neck


def features_model(network: keras.Model) -> keras.Model:
    """Returns the network's own backbone: images [B, H, W, C] in 0..255 to features [B, D]."""
    return network.get_layer("backbone")


def features_before_neck(network: keras.Model) -> keras.Model:
    """Returns the part of a backbone in front of its neck: what the backbone reads, to features [B, D]."""
    backbone = features_model(network)
    return keras.Model(backbone.input, neck_input(backbone), name="features")


def neck_input(backbone: keras.Model) -> keras.KerasTensor:
    """Returns the features [B, D] that the neck of a backbone reads; without a neck, its output."""
    nodes = [node for level in backbone._nodes_by_depth.values() for node in level]
    found = [node.input_tensors[0] for node in nodes if isinstance(node.operation, Neck)]
    return found[0] if found else backbone.output


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

    The network itself takes all images for target images. That matters only with a neck, or with BatchNormalization of
    each domain's own.
    """
    if side == "target" or not sees_domains(network):
        return network
    return _DomainView(network, side)


def sees_domains(network: keras.Model) -> bool:
    """Returns whether outputs depend on the domain of the images: by a neck, or BatchNormalization of each domain."""
    return has_domain_norms(network) or any(isinstance(layer, Neck) for layer in network._flatten_layers())


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
