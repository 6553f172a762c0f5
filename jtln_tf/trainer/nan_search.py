"""The search for the layer in which a number stops being finite."""

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.backbones import images_of
from jtln_tf.trainer.batch import read_batch
from jtln_tf.trainer.model import JointModel


class KeepWeights(keras.callbacks.Callback):
    """Keeps what a step begins with, so that the step can be looked at again. As slow as a checkpoint in each step."""

    def on_train_batch_begin(self, batch, logs=None):
        """Copies the variables."""
        self._variables = _variables_of(self.model)
        self._values = [keras.ops.convert_to_numpy(one) for one in self._variables]

    def find(self, data: dict) -> str:
        """Returns where a number stops being finite in the last step, whose batch is `data`."""
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)
        return find_broken_part(self.model, data)


def find_broken_part(model: JointModel, data: dict) -> str:
    """Returns what first holds a number that is not finite in a step: a weight, a layer, a term, a gradient.

    Args:
        model: Compiled model with the weights that the step begins with.
        data: The batch, as `fit` takes it.
    """
    for variable in model.network.variables:
        if not _is_finite(variable):
            return f"the weights {variable.path!r}"
    batch = read_batch(data, model.network, model.method.uses_second_view)
    for side, images in batch.images.items():
        with images_of(side):
            layer = _first_broken(model.network, tf.cast(images, tf.float32))
        if layer:
            return f"the output of layer {layer!r} for the {side} images"
    variables = model.network.trainable_variables
    with tf.GradientTape() as tape:
        terms = model._find_terms(batch, model._look_at(batch, training=True), model._moment())
        loss = model._replica_share(terms)
    for name, term in terms.items():
        if not _is_finite(term.values):
            return f"the term {name!r}, though all layers are finite"
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        if gradient is not None and not _is_finite(gradient):
            return f"the gradient of {variable.path!r}, though the loss is finite"
    return "the update of the weights, though loss and gradients are finite"


def _first_broken(model, inputs):
    """Returns the name of the first layer of a functional model whose output is not finite, or an empty text."""
    levels = [level for _, level in sorted(model._nodes_by_depth.items(), reverse=True)]
    nodes = [node for level in levels for node in level if not node.is_input]
    tensors = [node.outputs[0] for node in nodes]
    values = keras.Model(model.input, tensors)(inputs, training=True)
    known = {id(tensor): value for tensor, value in zip(tensors, values, strict=True)}
    for node, value in zip(nodes, values, strict=True):
        if _is_finite(value):
            continue
        name, inner = node.operation.name, ""
        if isinstance(node.operation, keras.Model) and len(node.input_tensors) == 1:
            inner = _first_broken(node.operation, known.get(id(node.input_tensors[0]), inputs))
        return f"{name}/{inner}" if inner else name
    return ""


def _is_finite(values):
    return bool(np.isfinite(keras.ops.convert_to_numpy(values)).all())


def _variables_of(model):
    own = model.method_state.variables if model.method_state is not None else []
    return [*model.network.variables, *own, model.steps_seen]
