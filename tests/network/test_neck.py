import keras
import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.backbones import images_of
from jtln_tf.config import InputError, NetworkConfig
from jtln_tf.network import build_network, copy_network, cut_network, domain_view, find_neck
from jtln_tf.network.neck import CosineLogits, Neck
from tests.network.networks import IMAGES

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(6, 5)).astype(np.float32)


def made_neck():
    neck = Neck()
    neck.build(FEATURES.shape)
    means, kernel = RNG.normal(size=(2, 5)), RNG.normal(size=(5, 5))
    neck.set_start(*means, kernel)
    return neck, dict(zip(("source", "target"), means, strict=True)), kernel


def test_each_image_is_centred_by_its_own_domain():
    neck, means, kernel = made_neck()

    def expected(rows, side):
        features = FEATURES[rows].astype(np.float64)
        mapped = (features / np.linalg.norm(features, axis=1, keepdims=True) - means[side]) @ kernel
        return mapped / np.linalg.norm(mapped, axis=1, keepdims=True)

    np.testing.assert_allclose(neck(FEATURES), expected(slice(None), "target"), rtol=1e-4, atol=1e-5)
    with images_of("source"):
        np.testing.assert_allclose(neck(FEATURES), expected(slice(None), "source"), rtol=1e-4, atol=1e-5)
    with images_of(tf.constant([True, False, True, False, False, True])):
        mixed = neck(FEATURES).numpy()
    np.testing.assert_allclose(mixed[[0, 2, 5]], expected([0, 2, 5], "target"), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mixed[[1, 3, 4]], expected([1, 3, 4], "source"), rtol=1e-4, atol=1e-5)


def test_an_image_at_the_mean_has_finite_outputs_and_gradients():
    neck, means, kernel = made_neck()
    at_mean = means["target"] / np.linalg.norm(means["target"])
    neck.set_start(means["source"], at_mean, kernel)
    features = tf.constant([at_mean, np.zeros_like(at_mean)], tf.float32)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(neck(features))
    assert np.isfinite(total) and np.isfinite(tape.gradient(total, neck.kernel.value)).all()


def test_logits_are_scaled_cosines_or_those_of_a_linear_classifier():
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    head = CosineLogits(3, 16.0)
    head.build(unit.shape)
    directions, bias = RNG.normal(size=(3, 5)), RNG.normal(size=3)
    head.set_classes(directions)
    cosines = unit @ directions.T / np.linalg.norm(directions, axis=1)
    np.testing.assert_allclose(head(unit), 16 * cosines, rtol=1e-4, atol=1e-4)
    head.set_linear(directions, bias)
    np.testing.assert_allclose(head(unit), unit @ directions.T + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cut", ["all", "conv2"])
def test_a_network_with_a_neck_is_cut_copied_and_viewed_by_domain(cut, tmp_path):
    network = build_network("small_cnn", 5, 3, image_shape=IMAGES.shape[1:], neck="identity", freeze_until=cut)
    width = find_neck(network).kernel.shape[0]
    find_neck(network).set_start(*RNG.normal(size=(2, width)), RNG.normal(size=(width, width)))
    trunk, rest = cut_network(network, cut)
    for side in ("source", "target"):
        expected = domain_view(network, side)(IMAGES)[side]
        np.testing.assert_allclose(domain_view(rest, side)(trunk(IMAGES))[side], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            domain_view(copy_network(network), side)(IMAGES)[side], expected, rtol=1e-4, atol=1e-5
        )
    assert not np.allclose(domain_view(network, "source")(IMAGES)["target"], network(IMAGES)["target"], atol=1e-3)
    # What is trained behind a trunk that ends in the features: the map of the neck, and the two heads.
    assert len(rest.trainable_variables) == 3 or cut != "all"
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_allclose(loaded(IMAGES)["target"], network(IMAGES)["target"], rtol=1e-5, atol=1e-6)


def test_features_wider_than_a_map_are_refused_before_an_image_is_read():
    image = keras.Input((5000,))
    with pytest.raises(InputError, match="`neck` must be none for more than 4096 features. Received: 5000. Hint"):
        build_network(keras.Model(image, keras.layers.Identity()(image)), 4, 3, image_shape=(5000,), neck="identity")


def test_options_that_do_not_go_together_are_refused():
    with pytest.raises(InputError, match="`start`=strong needs a `neck`"):
        NetworkConfig(start="strong", neck="none")
    with pytest.raises(InputError, match="`head_hidden_units` must be empty with a `neck`"):
        NetworkConfig(neck="whitened", head_hidden_units=(8,))
