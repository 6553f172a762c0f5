import keras
import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.config import InputError
from jtln_tf.network import (
    backbone_variables,
    build_network,
    features_model,
    head_variables,
    logits_model,
    predictions_model,
)

# keras 3.15 saves its variables through a NumPy interface that NumPy 2.4 calls deprecated.

IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 12, 12, 1)).astype("float32")


def build_small(**options):
    return build_network("small_cnn", 5, 3, image_shape=(12, 12, 1), **options)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def test_two_heads_of_probabilities():
    outputs = build_small()(IMAGES)
    assert set(outputs) == {"source", "target"}
    assert outputs["source"].shape == (4, 5) and outputs["target"].shape == (4, 3)
    for probabilities in outputs.values():
        np.testing.assert_allclose(probabilities.numpy().sum(-1), 1, rtol=1e-5)


def test_heads_are_dense_layers_on_the_features():
    network = build_small()
    features = features_model(network)(IMAGES).numpy()
    logits, probabilities = logits_model(network)(IMAGES), network(IMAGES)
    for side in ("source", "target"):
        kernel, bias = network.get_layer(f"{side}_logits").get_weights()
        expected = features @ kernel + bias
        np.testing.assert_allclose(logits[side], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(probabilities[side], softmax(expected), rtol=1e-4, atol=1e-6)


def test_views_share_the_weights():
    network = build_small()
    logits = logits_model(network)
    network.get_layer("target_logits").bias.assign([1.0, 2.0, 3.0])
    network.get_layer("target_logits").kernel.assign(np.zeros((128, 3)))
    np.testing.assert_allclose(logits(IMAGES)["target"], np.tile([1.0, 2.0, 3.0], (4, 1)))
    assert {id(v) for v in logits.trainable_variables} == {id(v) for v in network.trainable_variables}


def test_source_predictions_are_those_of_the_network():
    network = build_small(head_dropout=0.5)
    predictions = predictions_model(network, "source")
    # Prediction drops no features.
    np.testing.assert_allclose(predictions.predict(IMAGES, verbose=0), network(IMAGES)["source"], rtol=1e-5, atol=1e-7)
    network.get_layer("source_logits").bias.assign([0.0, 1.0, 2.0, 3.0, 4.0])
    network.get_layer("source_logits").kernel.assign(np.zeros((128, 5)))
    expected = np.tile(softmax(np.arange(5.0)), (4, 1))
    np.testing.assert_allclose(predictions.predict(IMAGES, verbose=0), expected, rtol=1e-5)


def test_hidden_layers_and_dropout_of_each_head():
    network = build_small(head_hidden_units=(7, 6), head_dropout=0.5)
    for side in ("source", "target"):
        assert network.get_layer(f"{side}_hidden1").kernel.shape == (128, 7)
        assert network.get_layer(f"{side}_hidden2").kernel.shape == (7, 6)
        assert network.get_layer(f"{side}_dropout").rate == 0.5
    assert len(head_variables(network)) == 2 * 3 * 2


def test_variables_are_split_between_backbone_and_heads():
    network = build_small(freeze_until="conv1")
    backbone, heads = backbone_variables(network), head_variables(network)
    assert len(heads) == 4
    # Kernel and bias of three convolutions, less the frozen one, and of the dense layer.
    assert len(backbone) == 2 * 2 + 2
    assert {id(v) for v in backbone + heads} == {id(v) for v in network.trainable_variables}
    assert len(network.trainable_variables) == len(backbone) + len(heads)


@pytest.mark.parametrize(("backbone", "side"), [("small_cnn", 12), ("alexnet", 67), ("MobileNetV3Small", 32)])
def test_saves_and_reloads(backbone, side, tmp_path):
    options = {"head_hidden_units": (7,), "head_dropout": 0.1}
    network = build_network(backbone, 5, 3, image_shape=(side, side, 3), **options)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras", safe_mode=True, compile=False)
    images = np.random.default_rng(1).uniform(0, 255, (2, side, side, 3)).astype("float32")
    expected, actual = network(images), again(images)
    for name in ("source", "target"):
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-5, atol=1e-7)
    assert features_model(again).output.shape == features_model(network).output.shape
    np.testing.assert_allclose(
        logits_model(again)(images)["source"], logits_model(network)(images)["source"], rtol=1e-4
    )
    np.testing.assert_allclose(predictions_model(again, "source")(images), expected["source"], rtol=1e-4, atol=1e-6)
    assert len(head_variables(again)) == len(head_variables(network))


def test_mixed_precision_gives_float32():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = build_small(head_hidden_units=(4,))
    finally:
        keras.config.set_dtype_policy(policy)
    assert features_model(network)(IMAGES).dtype == tf.float16
    for outputs in (network(IMAGES), logits_model(network)(IMAGES)):
        assert {value.dtype for value in outputs.values()} == {tf.float32}


def test_gradients_reach_every_trained_variable():
    network = build_small(freeze_until="conv1")
    with tf.GradientTape() as tape:
        logits = logits_model(network)(IMAGES, training=True)
        loss = sum(tf.reduce_mean(value**2) for value in logits.values())
    for gradient in tape.gradient(loss, network.trainable_variables):
        assert gradient is not None and np.isfinite(gradient.numpy()).all()


def test_ready_backbone():
    image = keras.Input((12, 12, 1))
    ready = keras.Model(image, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3)(image)), name="mine")
    network = build_network(ready, 5, 3, image_shape=(12, 12, 1))
    np.testing.assert_allclose(features_model(network)(IMAGES), ready(IMAGES))
    assert {id(v) for v in backbone_variables(network)} == {id(v) for v in ready.trainable_variables}


def test_ready_backbone_must_give_features():
    image = keras.Input((12, 12, 1))
    with pytest.raises(InputError, match=r"`backbone` must map one image input to features \[B, D\]"):
        build_network(keras.Model(image, keras.layers.Conv2D(6, 3)(image)), 5, 3, image_shape=(12, 12, 1))


def test_ready_backbone_must_fit_the_image():
    image = keras.Input((12, 12, 1))
    with pytest.raises(InputError, match=r"`image_shape` must be the input \[12, 12, 1\].*Received: \[13, 12, 1\]"):
        build_network(keras.Model(image, keras.layers.Flatten()(image)), 5, 3, image_shape=(13, 12, 1))


@pytest.mark.parametrize(("name", "value"), [("weights", "imagenet"), ("pixel_range", "0_1"), ("freeze_until", "x")])
def test_ready_backbone_takes_no_options(name, value):
    image = keras.Input((12, 12, 1))
    with pytest.raises(InputError, match=f"`{name}` must not be given with a ready `backbone` model"):
        build_network(keras.Model(image, keras.layers.Flatten()(image)), 5, 3, image_shape=(12, 12, 1), **{name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_source_classes": 1}, "`num_source_classes` must be at least 2. Received: 1"),
        ({"num_target_classes": 0}, "`num_target_classes` must be at least 2. Received: 0"),
        ({"head_hidden_units": (8, 0)}, r"`head_hidden_units` must be at least 1 each. Received: \(8, 0\)"),
        ({"head_dropout": 1.0}, r"`head_dropout` must be in \[0, 1\). Received: 1.0"),
    ],
)
def test_heads_must_fit(options, message):
    arguments = {"num_source_classes": 5, "num_target_classes": 3, "image_shape": (12, 12, 1)} | options
    with pytest.raises(InputError, match=message):
        build_network("small_cnn", **arguments)
