"""The part of a backbone up to a layer."""

import keras

from jtln_tf.config import InputError
from jtln_tf.network import layer_output


def layer_model(backbone: keras.Model, layer: str) -> keras.Model:
    """Returns the part of a functional backbone up to a layer: images [B, H, W, C] to features [B, D].

    Outputs with a height and a width are averaged over both; an empty name returns the backbone itself. It is an
    `InputError` if there is no such layer, or its output has neither 2 nor 4 dimensions.
    """
    if not layer:
        return backbone
    output = layer_output(backbone, layer, "cost_layer")
    if len(output.shape) == 4:
        output = keras.layers.GlobalAveragePooling2D()(output)
    if len(output.shape) != 2:
        raise InputError(
            f"`cost_layer` must name a layer with features or feature maps. Received: {layer!r} with the output shape "
            f"{list(output.shape)}."
        )
    return keras.Model(backbone.input, output, name=f"{backbone.name}_{layer}")
