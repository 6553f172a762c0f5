"""Models rebuilt layer by layer, weights included."""

import keras


def clone_model(model, new_input, pixels, *, left_out=(), replace=None):
    """Clones a functional model, weights included, onto `new_input`.

    Args:
        model: The model, with one input.
        new_input: Input tensor of the clone.
        pixels: What the first layers read in place of `new_input`, computed from it.
        left_out: Layers that pass on what they receive.
        replace: Called with each layer, returns the layer that takes its place with its weights, or None to clone it.

    Returns:
        The clone, all of it trainable, even where the original was saved with frozen layers.
    """
    is_resized = model.input.shape[1:-1] != pixels.shape[1:-1]
    names_left_out, names_replaced = {layer.name for layer in left_out}, set()

    def clone_layer(layer):
        replacement = replace(layer) if replace else None
        if replacement is not None:
            names_replaced.add(layer.name)
            return replacement
        if isinstance(layer, keras.Model) and len(layer.inputs) == 1 and len(layer.outputs) == 1:
            shape = layer.inputs[0].shape[1:]
            inner_input = keras.Input((None, None, shape[-1]) if is_resized and len(shape) == 3 else shape)
            inner = keras.Model(layer.inputs[0], layer.outputs[0], name=layer.name)
            return clone_model(inner, inner_input, inner_input, replace=replace)
        config = layer.get_config()
        if "trainable" in config:
            config["trainable"] = True
        return type(layer).from_config(config)

    def call_layer(layer, *args, **kwargs):
        args, kwargs = keras.tree.map_structure(lambda x: pixels if x is new_input else x, (args, kwargs))
        return args[0] if layer.name in names_left_out else layer(*args, **kwargs)

    clone = keras.models.clone_model(
        model, input_tensors=new_input, clone_function=clone_layer, call_function=call_layer
    )
    for layer in model.layers:
        if layer.weights and layer.name not in names_left_out | names_replaced and not isinstance(layer, keras.Model):
            clone.get_layer(layer.name).set_weights(layer.get_weights())
    for layer in clone.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            # It computes with constants derived from its weights.
            layer.finalize_state()
    return clone


def move_model(model, new_input, pixels):
    """Rebuilds a functional model of its own layers onto `new_input`; `model` is of no use afterwards.

    For layers whose configuration does not tell all of them, so that they cannot be cloned.

    Args:
        model: The model, with one input.
        new_input: Input tensor to build on.
        pixels: What the first layers read in place of `new_input`, computed from it.
    """
    moved = set()

    def call_layer(layer, *args, **kwargs):
        if id(layer) not in moved:
            # What Keras calls the output of a layer is that of its first call.
            layer._inbound_nodes.clear()
            layer._outbound_nodes.clear()
            moved.add(id(layer))
        args, kwargs = keras.tree.map_structure(lambda x: pixels if x is new_input else x, (args, kwargs))
        return layer(*args, **kwargs)

    return keras.models.clone_model(
        model, input_tensors=new_input, clone_function=lambda layer: layer, call_function=call_layer
    )
