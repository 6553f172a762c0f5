import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.config import SIDES, InputError, NetworkConfig
from jtln_tf.network import build_network, cut_network, features_model, head_variables, outputs_model
from tests.network.networks import IMAGES, build_residual, build_small


def ready_model(*layers, name="mine"):
    return keras.Sequential([keras.Input((12, 12, 1)), *layers], name=name)


def test_a_configuration_says_what_arguments_say():
    options = {"head_hidden_units": (7, 6), "head_dropout": 0.5, "freeze_until": "conv1"}
    by_config = build_network(NetworkConfig(backbone="small_cnn", **options), 5, 3, image_shape=(12, 12, 1))
    network = build_small(**options)
    assert [each.name for each in by_config.layers] == [each.name for each in network.layers]
    assert all(network.get_layer(f"{side}_dropout").rate == 0.5 for side in SIDES)
    for side, num_classes in zip(SIDES, (5, 3), strict=True):
        shapes = [variable.shape for variable in head_variables(network, side)]
        assert shapes == [(128, 7), (7,), (7, 6), (6,), (6, num_classes), (num_classes,)]


def test_saves_and_reloads(tmp_path):
    network = build_residual("per_domain")
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras", safe_mode=True, compile=False)
    expected = outputs_model(network)(IMAGES)["source"]
    np.testing.assert_allclose(outputs_model(again)(IMAGES)["source"], expected, rtol=1e-4, atol=1e-6)
    assert len(head_variables(again)) == len(head_variables(network))


def test_mixed_precision_gives_float32():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = build_small(head_hidden_units=[4])
    finally:
        keras.config.set_dtype_policy(policy)
    # A float16 pixel would lose the fractions that augmentation makes.
    assert features_model(network).get_layer("pixel_scaling").compute_dtype == "float32"
    assert features_model(network)(IMAGES).dtype == tf.float16
    for outputs in (network(IMAGES), outputs_model(network)(IMAGES)):
        assert outputs["source"].dtype == outputs["target"].dtype == tf.float32


@pytest.mark.parametrize("name", ["mine", "backbone"])
def test_a_ready_backbone_is_trained_itself_whatever_its_layers_were_in_before(name):
    shared = keras.layers.Conv2D(6, 3, name="shared")
    shared(keras.Input((20, 20, 1)))
    ready = ready_model(shared, keras.layers.GlobalAveragePooling2D(), name=name)
    for network in [build_network(ready, 5, 3, image_shape=(12, 12, 1)) for _ in range(2)]:
        outputs = outputs_model(network, ["shared"])(IMAGES)
        np.testing.assert_allclose(outputs["features"], ready(IMAGES), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(outputs["layers"]["shared"], shared(IMAGES), rtol=1e-5, atol=1e-4)
        trunk, rest = cut_network(network, "shared")
        np.testing.assert_allclose(rest(trunk(IMAGES))["source"], network(IMAGES)["source"], rtol=1e-5)
        trained = features_model(network).trainable_variables
        assert [id(v) for v in trained] == [id(v) for v in ready.trainable_variables]


class Subclassed(keras.Model):
    def call(self, images):
        return images[:, 0, 0]


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        (ready_model(keras.layers.Conv2D(6, 3)), {}, r"`backbone` must map one image input to features \[B, D\]"),
        (Subclassed(), {}, r"`backbone` must map one image input .*Received: 'subclassed' with outputs \[\]"),
        (ready_model(keras.layers.Flatten()), {"weights": "imagenet"}, "`weights` must not be given with a ready"),
        (ready_model(keras.layers.Flatten()), {"image_shape": (13, 12, 1)}, r"`image_shape` .*\[12, 12, 1\] .*\[13,"),
        ("small_cnn", {"num_source_classes": 1}, "`num_source_classes` must be at least 2. Received: 1"),
        ("small_cnn", {"units": 3}, "must only hold the options .*head_dropout. Received: units"),
        (pathlib.Path("no.keras"), {}, "`backbone` must name an existing file. Received: 'no.keras'"),
        (NetworkConfig(), {"head_dropout": 0.1}, "`head_dropout` must be a field of the `NetworkConfig`"),
    ],
)
def test_what_does_not_fit_is_told(backbone, options, message):
    arguments = {"num_source_classes": 5, "num_target_classes": 3, "image_shape": (12, 12, 1)} | options
    with pytest.raises(InputError, match=message):
        build_network(backbone, **arguments)
