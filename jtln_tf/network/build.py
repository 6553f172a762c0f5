"""The network: one shared backbone and two softmax heads, and views of its parts."""

import itertools

import keras

from jtln_tf.backbones import build_backbone, has_domain_norms, images_of
from jtln_tf.config import SIDES, InputError


def build_network(
    backbone,
    num_source_classes,
    num_target_classes,
    *,
    image_shape,
    weights="none",
    pixel_range="0_255",
    freeze_until="",
    batchnorm="train",
    head_hidden_units=(),
    head_dropout=0.0,
):
    """Builds the network that is trained and exported.

    `image -> backbone -> features -> (hidden layers) -> {source,target}_logits -> softmax {source,target}`. With
    hidden layers the two branches part at the features; without, at the logits.

    Args:
        backbone: Name or `.keras` path for `build_backbone`, or a ready `keras.Model` from images to features [B, D].
        num_source_classes: Classes of the source head, n, at least 2.
        num_target_classes: Classes of the target head, m, at least 2.
        image_shape: `(height, width, channels)` of the images.
        weights: See `build_backbone`; like the next three, only for a backbone that is built here.
        pixel_range: See `build_backbone`.
        freeze_until: See `build_backbone`.
        batchnorm: See `build_backbone`.
        head_hidden_units: Sizes of the hidden ReLU layers of each head, `{side}_hidden1`, ...
        head_dropout: Dropout rate on the features that enter each head, in [0, 1).

    Returns:
        A functional `keras.Model` from `image` [B, H, W, C] in 0..255 to the probabilities
        `{"source": [B, n], "target": [B, m]}`, float32 under every precision policy.

    Raises:
        MissingInputError: If a file does not exist.
        InputError: If an argument does not fit.
    """
    _check_heads(num_source_classes, num_target_classes, head_hidden_units, head_dropout)
    options = {"weights": weights, "pixel_range": pixel_range, "freeze_until": freeze_until, "batchnorm": batchnorm}
    if isinstance(backbone, keras.Model):
        backbone = _adopt_backbone(backbone, image_shape, options)
    else:
        backbone = build_backbone(backbone, image_shape, **options)

    image = keras.Input(tuple(image_shape), name="image")
    features = backbone(image)
    probabilities = {}
    for side, num_classes in zip(SIDES, (num_source_classes, num_target_classes), strict=True):
        x = features
        if head_dropout:
            x = keras.layers.Dropout(head_dropout, name=f"{side}_dropout")(x)
        for number, units in enumerate(head_hidden_units, start=1):
            x = keras.layers.Dense(units, activation="relu", name=f"{side}_hidden{number}")(x)
        # float32 under mixed precision: the losses and the transport term start from the logits.
        logits = keras.layers.Dense(num_classes, dtype="float32", name=f"{side}_logits")(x)
        probabilities[side] = keras.layers.Softmax(dtype="float32", name=side)(logits)
    return keras.Model(image, probabilities, name="network")


def logits_model(network):
    """Returns a model that shares the network's weights: images to `{"source": [B, n], "target": [B, m]}` logits.

    Losses start here: the logarithm of an underflowed probability is minus infinity.
    """
    # Not the outputs that the layers know of: those of a layer that stands in two networks may be the other's.
    image = keras.Input(network.input.shape[1:], name=network.input.name)
    features = features_model(network)(image)
    return keras.Model(image, {side: _call_head(network, side, features) for side in SIDES})


def features_model(network):
    """Returns the network's own backbone: images [B, H, W, C] in 0..255 to features [B, D]."""
    return network.get_layer("backbone")


def domain_view(network, side):
    """Returns a model with the outputs of the network that knows from which domain its images are.

    The network itself takes them for target images, which matters only to BatchNormalization of each domain's own.

    Args:
        network: What `build_network` returns, or a part of it that begins at the images.
        side: `source` or `target`, the domain of the images.
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
        # What features that are kept on the disk depend on.
        return {"network": self._network.get_config(), "side": self._side}


def predictions_model(network, side):
    """Returns images [B, H, W, C] in 0..255 to the probabilities of one head, `source` [B, n] or `target` [B, m]."""
    return keras.Model(network.input, network.output[side], name=f"{side}_predictions")


def cut_network(network, layer):
    """Cuts a network in two behind a layer of its backbone; both parts share its weights.

    Args:
        network: What `build_network` returns.
        layer: Name of the backbone layer. Everything after it must depend on the image through its output alone.

    Returns:
        `(trunk, rest)`: a model from `image` [B, H, W, C] to the layer's output [B, ...], and a network from there to
        the probabilities of both heads, whose parts are named and found like those of the whole.

    Raises:
        InputError: If there is no such layer, or more than its output is needed further on.
    """
    backbone = features_model(network)
    names = [each.name for each in backbone.layers]
    if layer not in names:
        raise InputError(f"`freeze_until` must name a layer of the backbone, such as {names[-1]}. Received: {layer!r}.")
    rest = _layers_behind(backbone, layer)
    if rest is None:
        position = names.index(layer)
        others = sorted(range(len(names)), key=lambda index: (abs(index - position), index))
        possible = (names[index] for index in others if _layers_behind(backbone, names[index]) is not None)
        raise InputError(
            "`freeze_until` must name a layer whose output is all that `cache_features` needs to keep, such as "
            f"{', '.join(itertools.islice(possible, 3))}. Received: {layer!r}."
        )
    activations = keras.Input(rest.input.shape[1:], name="activations")
    features = rest(activations)
    probabilities = {side: network.get_layer(side)(_call_head(network, side, features)) for side in SIDES}
    trunk = keras.Model(backbone.input, backbone.get_layer(layer).output, name="trunk")
    return trunk, keras.Model(activations, probabilities, name="rest")


def _call_head(network, side, features):
    """Returns the logits of a head for features."""
    x = features
    for layer in network.layers:
        if layer.name.startswith(f"{side}_"):
            x = layer(x)
    return x


def _layers_behind(backbone, layer):
    """Returns the part of a backbone behind a layer, or None where it needs more than the layer's output."""
    output = backbone.get_layer(layer).output
    if not isinstance(output, keras.KerasTensor):
        return None
    if output is backbone.output:
        features = keras.Input(output.shape[1:])
        return keras.Model(features, keras.layers.Identity()(features), name="backbone")
    try:
        return keras.Model(output, backbone.output, name="backbone")
    except ValueError:
        return None


def backbone_variables(network):
    """Returns the trainable variables of the backbone; frozen layers have none."""
    return features_model(network).trainable_variables


def head_variables(network):
    """Returns the trainable variables of the two heads."""
    of_backbone = {id(variable) for variable in backbone_variables(network)}
    return [variable for variable in network.trainable_variables if id(variable) not in of_backbone]


def _check_heads(num_source_classes, num_target_classes, head_hidden_units, head_dropout):
    for name, count in (("num_source_classes", num_source_classes), ("num_target_classes", num_target_classes)):
        if count < 2:
            raise InputError(f"`{name}` must be at least 2. Received: {count}.")
    if any(units < 1 for units in head_hidden_units):
        raise InputError(f"`head_hidden_units` must be at least 1 each. Received: {tuple(head_hidden_units)}.")
    if not 0 <= head_dropout < 1:
        raise InputError(f"`head_dropout` must be in [0, 1). Received: {head_dropout}.")


def _adopt_backbone(backbone, image_shape, options):
    defaults = {"weights": "none", "pixel_range": "0_255", "freeze_until": "", "batchnorm": "train"}
    for name, value in options.items():
        if value != defaults[name]:
            raise InputError(f"`{name}` must not be given with a ready `backbone` model. Received: {value!r}.")
    if len(backbone.inputs) != 1 or len(backbone.outputs) != 1 or len(backbone.outputs[0].shape) != 2:
        raise InputError(
            "`backbone` must map one image input to features [B, D]. "
            f"Received: {backbone.name!r} with outputs {[list(x.shape) for x in backbone.outputs]}."
        )
    expected = backbone.inputs[0].shape[1:]
    if len(expected) != len(image_shape) or any(
        size not in (None, given) for size, given in zip(expected, image_shape, strict=True)
    ):
        raise InputError(
            f"`image_shape` must be the input {list(expected)} of the ready `backbone`. Received: {list(image_shape)}."
        )
    if backbone.name == "backbone":
        return backbone
    # The parts of a network are found by name, also after it was saved and loaded.
    return keras.Model(backbone.inputs[0], backbone.outputs[0], name="backbone")
