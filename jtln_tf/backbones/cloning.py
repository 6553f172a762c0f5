"""Rebuilds models layer by layer, weights included."""

from collections.abc import Callable, Collection

import keras


def clone_model(
    model: keras.Model,
    new_input: keras.KerasTensor,
    pixels: keras.KerasTensor,
    *,
    left_out: Collection[keras.Layer] = (),
    replace: Callable[[keras.Layer], keras.Layer | None] | None = None,
) -> keras.Model:
    """Clones a functional model, weights included, onto `new_input`.

    Args:
        model: The model, with one input.
        new_input: Input tensor of the clone.
        pixels: Tensor computed from `new_input` that the first layers read instead of it.
        left_out: Layers that return their input.
        replace: Receives each layer and returns the layer that takes its place, with its weights, or None to clone it.

    Returns:
        The clone, all of it trainable, even if the original has frozen layers.
    """
    is_resized = model.input.shape[1:-1] != pixels.shape[1:-1]
    names_left_out, names_replaced = {layer.name for layer in left_out}, set()

    def clone_layer(layer):
        replacement = replace(layer) if replace else None
        if replacement is not None:
            names_replaced.add(layer.name)
            return replacement
        if is_inner_model(layer):
            shape = layer.inputs[0].shape[1:]
            inner_input = keras.Input((None, None, shape[-1]) if is_resized and len(shape) == 3 else shape)
            inner = keras.Model(layer.inputs[0], layer.outputs[0], name=layer.name)
            return clone_model(inner, inner_input, inner_input, replace=replace)
        clone = type(layer).from_config(layer.get_config())
        clone.trainable = True
        return clone

    def call_layer(layer, *args, **kwargs):
        args, kwargs = keras.tree.map_structure(lambda x: pixels if x is new_input else x, (args, kwargs))
        return args[0] if layer.name in names_left_out else layer(*args, **kwargs)

    clone = keras.models.clone_model(
        model, input_tensors=new_input, clone_function=clone_layer, call_function=call_layer
    )
    for layer in model.layers:
        if layer.weights and layer.name not in names_left_out | names_replaced and not is_inner_model(layer):
            clone.get_layer(layer.name).set_weights(layer.get_weights())
    for layer in clone.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            # It computes with constants that it derives from its weights.
            layer.finalize_state()
    return clone


def is_inner_model(layer: keras.Layer) -> bool:
    """Returns whether `clone_model` clones a layer as a model, layer by layer."""
    return isinstance(layer, keras.Model) and len(layer.inputs) == 1 and len(layer.outputs) == 1


def move_model(model: keras.Model, new_input: keras.KerasTensor, pixels: keras.KerasTensor) -> keras.Model:
    """Rebuilds a functional model with its own layers on `new_input`; `model` must not be used afterwards.

    For layers that cannot be cloned, because their configuration does not describe them completely. The arguments are
    those of `clone_model`.
    """
    moved = set()

    def call_layer(layer, *args, **kwargs):
        if id(layer) not in moved:
            # keras calls the output of a layer's first call its output.
            layer._inbound_nodes.clear()
            layer._outbound_nodes.clear()
            moved.add(id(layer))
        args, kwargs = keras.tree.map_structure(lambda x: pixels if x is new_input else x, (args, kwargs))
        return layer(*args, **kwargs)

    return keras.models.clone_model(
        model, input_tensors=new_input, clone_function=lambda layer: layer, call_function=call_layer
    )
