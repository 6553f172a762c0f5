"""Rebuilds models layer by layer, weights included."""

from collections.abc import Callable

import keras


def clone_model(
    model: keras.Model,
    new_input: keras.KerasTensor,
    pixels: keras.KerasTensor,
    replace: Callable[[keras.Layer], keras.Layer | None] = lambda layer: None,
) -> keras.Model:
    """Clones a functional model, weights included; all of the clone is trainable, even if layers were frozen.

    Args:
        model: The model, with one input.
        new_input: Input tensor of the clone.
        pixels: Tensor computed from `new_input` that the first layers read instead of it.
        replace: Receives each layer and returns the layer of another class that takes its place, with its weights, or
            None to clone it.
    """
    is_resized = model.input.shape[1:-1] != pixels.shape[1:-1]

    def clone_layer(layer):
        replacement = replace(layer)
        if replacement is not None:
            return replacement
        if _is_inner_model(layer):
            shape = layer.inputs[0].shape[1:]
            inner_input = keras.Input((None, None, shape[-1]) if is_resized and len(shape) == 3 else shape)
            inner = keras.Model(layer.inputs[0], layer.outputs[0], name=layer.name)
            return clone_model(inner, inner_input, inner_input, replace)
        clone = type(layer).from_config(layer.get_config())
        clone.trainable = True
        return clone

    clone = _rebuild(model, new_input, pixels, clone_layer)
    for layer in model.layers:
        if layer.weights and not _is_inner_model(layer):
            twin = clone.get_layer(layer.name)
            if type(twin) is type(layer):
                twin.set_weights(layer.get_weights())
            if isinstance(twin, keras.layers.Normalization):
                # It computes with constants that it derives from its weights.
                twin.finalize_state()
    return clone


def move_model(model: keras.Model, new_input: keras.KerasTensor, pixels: keras.KerasTensor) -> keras.Model:
    """Rebuilds a functional model with its own layers on `new_input`; `model` must not be used afterwards.

    For layers that cannot be cloned, because their configuration does not describe them completely. The arguments are
    those of `clone_model`.
    """

    def move_layer(layer):
        # keras calls the output of a layer's first call its output.
        layer._inbound_nodes.clear()
        layer._outbound_nodes.clear()
        return layer

    return _rebuild(model, new_input, pixels, move_layer)


def _is_inner_model(layer):
    return isinstance(layer, keras.Model) and len(layer.inputs) == 1 and len(layer.outputs) == 1


def _rebuild(model, new_input, pixels, make_layer):
    def call_layer(layer, *args, **kwargs):
        args, kwargs = keras.tree.map_structure(lambda x: pixels if x is new_input else x, (args, kwargs))
        return layer(*args, **kwargs)

    return keras.models.clone_model(model, new_input, clone_function=make_layer, call_function=call_layer)
