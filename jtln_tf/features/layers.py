"""The part of a backbone up to a layer."""

import keras

from jtln_tf.config import InputError


def layer_model(backbone: keras.Model, layer: str) -> keras.Model:
    """Returns the part of a functional backbone up to a layer: images [B, H, W, C] to features [B, D].

    Outputs with a height and a width are averaged over both. An empty name returns the backbone itself.

    Raises:
        InputError: If there is no such layer, or its output has neither 2 nor 4 dimensions.
    """
    if not layer:
        return backbone
    names = [each.name for each in backbone.layers]
    if layer not in names:
        raise InputError(f"`cost_layer` must name a layer of the backbone, such as {names[-1]}. Received: {layer!r}.")
    output = backbone.get_layer(layer).output
    if not isinstance(output, keras.KerasTensor):
        count = len(keras.tree.flatten(output))
        raise InputError(f"`cost_layer` must name a layer with one output. Received: {layer!r} with {count}.")
    if len(output.shape) == 4:
        output = keras.layers.GlobalAveragePooling2D()(output)
    if len(output.shape) != 2:
        raise InputError(
            f"`cost_layer` must name a layer with features or feature maps. Received: {layer!r} with the output shape "
            f"{list(output.shape)}."
        )
    try:
        return keras.Model(backbone.input, output, name=f"{backbone.name}_{layer}")
    except ValueError as error:
        raise InputError(f"`cost_layer` must not name a model inside the backbone. Received: {layer!r}.") from error
