"""DELTA against its equation, and its attention against a network whose filters are removed by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.features.probe import fit_logistic_regression
from jtln_tf.methods.delta.filters import last_convolutions, measure_filters
from jtln_tf.methods.delta.method import Delta, find_attention
from jtln_tf.network import copy_network, features_model
from tests.methods.conftest import log_softmax, make_moment, make_network, make_outputs, make_setup


def test_feature_maps_are_held_channel_by_channel():
    rng, network = np.random.default_rng(0), make_network()
    method = Delta(delta_alpha=0.3, delta_beta=0.2)
    state = method.make_state(network)
    # The second convolution is the last one of its size.
    assert method.watched_layers(network) == ("second",)
    now, before = (rng.normal(size=(4, 3, 3, 5)).astype(np.float32) for _ in range(2))
    state.weights[0].assign(attention := find_attention(rng.normal(size=5), 1.0))
    teacher = make_outputs(rng, 4, layers={"second": tf.constant(before)})
    one = make_outputs(rng, 4, layers={"second": tf.constant(now)}, teacher=teacher)
    terms = method.losses({"target": tf.constant([0, 1, 2, 0])}, {"target": one}, make_moment(network, state))
    moved = (now.astype(float) - before) ** 2
    expected = [sum(attention[c] * 5 / (2 * 9) * moved[i, :, :, c].sum() for c in range(5)) for i in range(4)]
    np.testing.assert_allclose(terms["feature_map_loss"].values, expected, rtol=1e-5)
    size = sum((array.astype(float) ** 2).sum() for array in network.get_layer("target_logits").get_weights())
    assert float(terms["target_head_loss"].values) == pytest.approx(size / 2, rel=1e-5)
    assert (terms["feature_map_loss"].weight, terms["target_head_loss"].weight) == (0.3, 0.2)


def test_attention_is_the_softmax_of_the_growths_in_standard_deviations():
    growths = np.array([0.3, -0.1, 0.0, 0.5])
    scores = (growths - growths.mean()) / growths.std() / 5
    np.testing.assert_allclose(find_attention(growths, 5.0), np.exp(log_softmax(scores)), rtol=1e-12)
    np.testing.assert_allclose(find_attention(np.full(4, 0.1), 5.0), 0.25)


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_filter_counts_as_much_as_the_loss_grows_without_it(name):
    network, domain = make_network(), make_setup().inputs["target"]
    before = [array.copy() for array in network.get_weights()]
    (found,) = measure_filters(network, [name], domain, num_images=6)
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    images, labels = tf.cast(domain.train.images.values, tf.float32), domain.train.labels

    def features_of(network, images):
        features = features_model(network)(images).numpy()
        return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)

    # In float32, because the regression stops some way from its optimum.
    weights, bias = fit_logistic_regression(features_of(network, images), labels)
    # The first two of each class.
    rows = [0, 1, 6, 7, 12, 13]

    def loss(network):
        logits = features_of(network, tf.gather(images, rows)) @ weights.T + bias
        return -log_softmax(logits)[np.arange(6), labels[rows]].mean()

    expected = []
    for channel in range(5):
        other = copy_network(network)
        kernel, bias_of_layer = features_model(other).get_layer(name).get_weights()
        kernel[..., channel], bias_of_layer[channel] = 0, 0
        features_model(other).get_layer(name).set_weights([kernel, bias_of_layer])
        expected.append(loss(other) - loss(network))
    # Differences of float32 losses of about 1.
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_frozen_convolutions_are_not_held_and_each_size_has_its_last():
    image = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(2, 3, padding="same", name="a")(image)
    x = keras.layers.Conv2D(2, 3, padding="same", name="b")(x)
    x = keras.layers.Conv2D(2, 3, 2, padding="same", name="c")(x)
    backbone = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    assert last_convolutions(backbone) == ("b", "c")
    backbone.get_layer("c").trainable = False
    assert last_convolutions(backbone) == ("b",)
