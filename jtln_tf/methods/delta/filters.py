"""What the filters of a backbone are worth to a linear classifier of the target."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.data import Domain
from jtln_tf.features.probe import fit_logistic_regression
from jtln_tf.features.start import to_unit
from jtln_tf.features.stream import stream_features
from jtln_tf.features.views import choose_views
from jtln_tf.methods.terms import cross_entropy
from jtln_tf.network import cut_network, features_model, layer_output
from jtln_tf.network.surgery import find_cuts


def last_convolutions(backbone: keras.Model) -> tuple[str, ...]:
    """Returns the name of the last trained convolution for each size of the maps, from the images to the features."""
    last = {}
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.trainable and layer.data_format == "channels_last":
            last[layer_output(backbone, layer.name).shape[1:3]] = layer.name
    return tuple(last.values())


def measure_filters(network: keras.Model, names: Sequence[str], domain: Domain, num_images: int) -> list[np.ndarray]:
    """Measures for each filter of some convolutions how much the loss grows if the filter is zero.

    The loss is the cross-entropy of a logistic regression on the features, scaled to length 1, of all training images.

    Args:
        network: The network; its weights are changed, and then as before.
        names: Names of convolutions of its backbone.
        domain: Target domain that the network reads.
        num_images: Most images on which the loss is taken, of all classes alike.

    Returns:
        The growths [C] for each convolution.
    """
    backbone, split = features_model(network), domain.train
    batches = list(stream_features(backbone, split))
    features, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    classifier = fit_logistic_regression(to_unit(features), labels)
    rows = choose_views(split.labels, max(1, num_images // domain.num_classes), fill=False)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), num_images)).astype(np.int64)]
    images = next(iter(split.read(tf.data.Dataset.from_tensors(tf.constant(rows, tf.int64)))))
    return [_measure_layer(network, name, images, split.labels[rows], classifier) for name in names]


def _measure_layer(network, name, images, labels, classifier):
    backbone = features_model(network)
    order = [layer.name for layer in backbone.layers]
    cuts = [cut for cut in find_cuts(backbone) if order.index(cut) < order.index(name)]
    inputs, behind = tf.cast(images, tf.float32), backbone
    # What is in front of the convolution is computed once.
    if cuts and not isinstance(backbone.get_layer(cuts[-1]), keras.layers.InputLayer):
        trunk, rest = cut_network(network, cuts[-1])
        inputs, behind = trunk(inputs, training=False), features_model(rest)
    loss = _make_loss(behind, inputs, labels, classifier)
    layer = backbone.get_layer(name)
    variables = [layer.kernel, *([layer.bias] if layer.use_bias else [])]
    before, growths = [keras.ops.convert_to_numpy(variable) for variable in variables], []
    whole = float(loss())
    try:
        for channel in range(layer.filters):
            for variable, values in zip(variables, before, strict=True):
                zeroed = values.copy()
                zeroed[..., channel] = 0
                variable.assign(zeroed)
            growths.append(float(loss()) - whole)
    finally:
        for variable, values in zip(variables, before, strict=True):
            variable.assign(values)
    return np.array(growths)


def _make_loss(behind, inputs, labels, classifier):
    """Returns a function that computes the mean loss of a classifier with the present weights of a model."""
    weights, bias = (tf.constant(part, tf.float32) for part in classifier)

    @tf.function(autograph=False)
    def loss():
        features = tf.cast(behind(inputs, training=False), tf.float32)
        logits = tf.matmul(tf.math.l2_normalize(features, axis=1), weights, transpose_b=True) + bias
        return tf.reduce_mean(cross_entropy(tf.constant(labels, tf.int32), logits))

    return loss
