import keras
import numpy as np
import pytest
import sklearn.linear_model
import tensorflow as tf

from jtln_tf.data import Domain, Split
from jtln_tf.data.reading.images import Pixels
from jtln_tf.features import stream
from jtln_tf.features.probe import fit_logistic_regression, fit_probe
from jtln_tf.features.start import fit_map, gather_class_sums, imprint_heads, start_neck
from jtln_tf.features.stream import stream_features
from jtln_tf.network import build_network, cut_network, domain_view, find_neck

RNG = np.random.default_rng(0)
WIDTH = 6


def make_split(counts, offset=0.0):
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    means = np.random.default_rng(1).normal(size=(len(counts), WIDTH)) * 2
    noise = RNG.normal(size=(len(labels), WIDTH)) * np.arange(1, WIDTH + 1)
    return (offset + means[labels] + noise).astype(np.float32), labels


def make_domain(features, labels):
    names = tuple("abcdefgh"[: labels.max() + 1])
    split = Split(Pixels(features), labels, image_size=0, channels=0)
    return Domain("made", names, split, split.take(np.array([], int)), split)


@pytest.fixture
def network():
    """The part behind a frozen backbone: a neck and two heads on the features."""
    image = keras.Input((WIDTH,))
    whole = build_network(
        keras.Model(image, keras.layers.Identity()(image)), 4, 3, image_shape=(WIDTH,), neck="whitened", start="strong"
    )
    return cut_network(whole, "all")[1]


def test_neck_and_heads_hold_means_and_the_whitening_of_all_classes(network, monkeypatch):
    monkeypatch.setattr(stream, "_BATCH", 7)
    sides = {"source": make_split([30, 20, 25, 2], offset=10.0), "target": make_split([3, 1, 2], offset=-5.0)}
    domains = {side: make_domain(*parts) for side, parts in sides.items()}
    start_neck(network, gather_class_sums(network, domains), is_whitened=True)
    imprint_heads(network, domains)
    inputs = {side: features for side, (features, _) in sides.items()}
    sides = {side: (x / np.linalg.norm(x.astype(float), axis=1, keepdims=True), y) for side, (x, y) in sides.items()}
    means = {side: np.stack([x[y == c].mean(0, dtype=float) for c in np.unique(y)]) for side, (x, y) in sides.items()}
    rest = np.concatenate([x - means[side][y] for side, (x, y) in sides.items()])
    covariance = rest.T @ rest / (len(rest) - 4 - 3)
    shrunk = 0.5 * covariance + 0.5 * np.trace(covariance) / WIDTH * np.eye(WIDTH)
    values, vectors = np.linalg.eigh(shrunk)
    for side, (features, labels) in sides.items():
        z = (features - means[side].mean(0)) @ (vectors / np.sqrt(values))
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        classes = np.stack([z[labels == c].mean(0) for c in np.unique(labels)])
        logits = 16 * z @ (classes / np.linalg.norm(classes, axis=1, keepdims=True)).T
        expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(domain_view(network, side)(inputs[side])[side], expected, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("counts", [[1, 1, 1, 1], [2, 1, 1, 1]])
def test_fewer_images_than_features_give_a_finite_start(network, counts):
    domains = {"source": make_domain(*make_split(counts)), "target": make_domain(*make_split([1, 1, 1]))}
    start_neck(network, gather_class_sums(network, domains), is_whitened=True)
    imprint_heads(network, domains)
    assert all(np.isfinite(weights).all() for weights in network.get_weights())


def test_equal_features_give_a_finite_start(network):
    same = {
        side: make_domain(np.ones((n, WIDTH), np.float32), np.arange(n, dtype=np.int32))
        for side, n in (("source", 4), ("target", 3))
    }
    start_neck(network, gather_class_sums(network, same), is_whitened=True)
    imprint_heads(network, same)
    assert all(np.isfinite(weights).all() for weights in network.get_weights())


def test_a_backbone_does_not_keep_the_outputs_of_all_its_layers():
    """They are kept while its layers are called one by one; a traced function drops them."""
    calls = []

    class Spy(keras.layers.Layer):
        def call(self, inputs):
            calls.append(tf.executing_eagerly())
            return tf.cast(inputs, tf.float32)

    image = keras.Input((4, 4, 1))
    model = keras.Model(image, keras.layers.Flatten()(Spy()(image)))
    pixels, labels = RNG.integers(0, 256, (70, 4, 4, 1), np.uint8), np.zeros(70, np.int32)
    calls.clear()
    features, _ = zip(*stream_features(model, Split(Pixels(pixels), labels, image_size=4, channels=1)), strict=True)
    assert calls and not any(calls)
    np.testing.assert_array_equal(np.concatenate(features), pixels.reshape(70, -1))


def test_a_map_whitens_the_shrunk_covariance():
    root = RNG.normal(size=(5, 5))
    covariance = root @ root.T
    found = fit_map(covariance, 0.5)
    shrunk = 0.5 * covariance + 0.5 * np.trace(covariance) / 5 * np.eye(5)
    np.testing.assert_allclose(found.T @ shrunk @ found, np.eye(5), atol=1e-10)


@pytest.mark.parametrize("counts", [[1, 1, 1], [9, 6, 4]])
def test_a_probe_is_the_logistic_regression_of_scikit_learn(network, counts):
    features, labels = make_split(counts)
    fit_probe(network, make_domain(features, labels))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    candidates = [sklearn.linear_model.LogisticRegression(C=c, max_iter=300).fit(unit, labels) for c in (1, 10, 100)]
    found = network(features)["target"].numpy()
    errors = [np.abs(found - one.predict_proba(unit)).max() for one in candidates]
    assert min(errors) < 1e-4 and (max(counts) > 1 or np.argmin(errors) == 1)
    assert not find_neck(network).means["target"].numpy().any()


def test_a_probe_of_two_classes_has_weights_for_both():
    features, labels = make_split([5, 5])
    weights, bias = fit_logistic_regression(features, labels)
    logits = features @ weights.T + bias
    predicted = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    errors = [
        np.abs(
            predicted
            - sklearn.linear_model.LogisticRegression(C=c, max_iter=300)
            .fit(features, labels)
            .predict_proba(features)[:, 1]
        ).max()
        for c in (1, 10, 100)
    ]
    assert min(errors) < 1e-6
