import keras
import numpy as np
import tensorflow as tf

from jtln_tf.backbones import images_of
from jtln_tf.config import SIDES
from jtln_tf.network import domain_view, features_model, head_variables, outputs_model, predictions_model
from tests.network.networks import IMAGES, build_residual, build_small


def test_outputs_are_features_logits_and_layers_of_one_pass():
    network = build_small(head_dropout=0.5)
    backbone = features_model(network)
    outputs = outputs_model(network, ["conv2", "pool1"])(IMAGES)
    assert list(outputs_model(network)(IMAGES)) == ["features", "source", "target"]
    np.testing.assert_allclose(outputs["features"], backbone(IMAGES), rtol=1e-5)
    kernel, bias = network.get_layer("target_logits").get_weights()
    np.testing.assert_allclose(outputs["target"], backbone(IMAGES).numpy() @ kernel + bias, rtol=1e-4, atol=1e-4)
    for side, probabilities in network(IMAGES).items():
        np.testing.assert_allclose(tf.nn.softmax(outputs[side]), probabilities, rtol=1e-4, atol=1e-6)
        predictions = predictions_model(network, side).predict(IMAGES, verbose=0)
        np.testing.assert_allclose(predictions, probabilities, rtol=1e-5, atol=1e-7)
    for name in ("conv2", "pool1"):
        expected = keras.Model(backbone.input, backbone.get_layer(name).output)(IMAGES)
        np.testing.assert_allclose(outputs["layers"][name], expected, rtol=1e-5)


def test_outputs_share_the_weights_and_every_one_has_a_gradient():
    network = build_small(freeze_until="conv1")
    with tf.GradientTape() as tape:
        outputs = outputs_model(network, ["conv2"])(IMAGES, training=True)
        loss = sum(tf.reduce_mean(outputs[side] ** 2) for side in SIDES)
    for gradient in tape.gradient(loss, network.trainable_variables):
        assert gradient is not None and np.isfinite(gradient.numpy()).all()
    backbone, heads = features_model(network).trainable_variables, head_variables(network)
    # Kernel and bias of three convolutions, less the frozen one, and of the dense layer.
    assert len(heads) == 4 and len(backbone) == 2 * 2 + 2
    assert {id(v) for v in backbone + heads} == {id(v) for v in network.trainable_variables}


def test_a_view_knows_from_which_domain_its_images_are():
    network = build_residual("per_domain")
    with images_of("source"):
        features_model(network)(IMAGES, training=True)
        expected = network(IMAGES)
    view = domain_view(network, "source")
    np.testing.assert_allclose(view.predict(IMAGES, verbose=0)["source"], expected["source"], rtol=1e-4, atol=1e-6)
    # Both were traced apart, whichever came first.
    target = network.predict(IMAGES, verbose=0)["source"]
    np.testing.assert_allclose(target, network(IMAGES)["source"], rtol=1e-4, atol=1e-6)
    assert not np.allclose(target, expected["source"], rtol=1e-3)
    assert domain_view(network, "target") is network
    plain = build_small()
    assert domain_view(plain, "source") is plain
