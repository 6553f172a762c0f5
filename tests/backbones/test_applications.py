import re
import sys

import keras
import numpy as np
import pytest

from jtln_tf.backbones import NAMED_BACKBONES
from jtln_tf.backbones.applications import APPLICATIONS
from jtln_tf.backbones.pixels import scale_pixels
from jtln_tf.config import InputError
from jtln_tf.network import build_network, cut_network
from tests.backbones.trunks import build, draw_images
from tests.conftest import REPOSITORY

# What keras itself does to the pixels.
PREPROCESS = {
    "caffe": keras.applications.resnet.preprocess_input,
    "torch": keras.applications.densenet.preprocess_input,
    "tf": keras.applications.mobilenet_v2.preprocess_input,
    "none": keras.applications.efficientnet.preprocess_input,
}


def module_of(name):
    return APPLICATIONS[name].features.keywords["constructor"].__module__


@pytest.mark.parametrize("mode", PREPROCESS)
def test_scaling_agrees_with_keras_and_survives_saving(mode, tmp_path):
    image = keras.Input((5, 4, 3))
    # A layer more, because `none` would leave a model without any.
    model = keras.Model(image, keras.layers.Identity()(scale_pixels(image, mode)))
    model.save(tmp_path / "scaling.keras")
    model = keras.saving.load_model(tmp_path / "scaling.keras", safe_mode=True)
    images = draw_images(2, 5, 4, 3)
    # float32 rounding of values up to 255.
    np.testing.assert_allclose(model(images), PREPROCESS[mode](images.copy()), rtol=1e-5, atol=1e-4)


def test_scaling_stays_float32_under_mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        pixels = scale_pixels(keras.Input((5, 4, 3)), "tf")
    finally:
        keras.config.set_dtype_policy(policy)
    assert pixels.dtype == "float32"


def test_each_application_has_the_scaling_of_its_module():
    images = draw_images(1, 2, 2, 3)
    for name, application in APPLICATIONS.items():
        expected = sys.modules[module_of(name)].preprocess_input(images.copy())
        np.testing.assert_array_equal(PREPROCESS[application.scaling](images.copy()), expected, name)


def test_every_keras_application_is_listed():
    constructors = {
        name for name, item in vars(keras.applications).items() if callable(item) and not name.startswith("_")
    }
    assert constructors == set(APPLICATIONS) == set(NAMED_BACKBONES) - {"small_cnn", "alexnet"}


def test_raw_pixels_reach_the_trunk_scaled():
    backbone = build("mobilenetv2", (32, 32, 1))
    trunk = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))
    trunk.set_weights(backbone.get_weights())
    images = draw_images(2, 32, 32, 1)
    expected = trunk(images.repeat(3, -1) / 127.5 - 1).numpy().mean((1, 2))
    np.testing.assert_allclose(backbone(images), expected, rtol=1e-4, atol=1e-5)


def test_failed_download_is_one_line(monkeypatch):
    def fail(*args, **kwargs):
        raise Exception("URL fetch failure on https://example.org\nmore")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", fail)
    with pytest.raises(InputError, match=r"`weights`=imagenet must be downloaded by keras for MobileNetV2") as caught:
        build("MobileNetV2", (48, 48, 3), weights="imagenet")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_imagenet_efficientnet_has_the_graph_of_the_plain_one(monkeypatch, tmp_path):
    donor = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    normalization = next(layer for layer in donor.layers if isinstance(layer, keras.layers.Normalization))
    normalization.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]) ** 2, np.array(0)])
    donor.save_weights(tmp_path / "donor.weights.h5")
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *a, **k: str(tmp_path / "donor.weights.h5"))

    official = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    backbone = build("EfficientNetB0", (32, 32, 3), weights="imagenet")
    images = draw_images(2, 32, 32, 3)
    expected = official(images).numpy().mean((1, 2))
    np.testing.assert_allclose(backbone(images), expected, rtol=1e-3, atol=1e-5)
    backbone.save_weights(tmp_path / "ours.weights.h5")
    again = build("EfficientNetB0", (32, 32, 3), weights=str(tmp_path / "ours.weights.h5"))
    np.testing.assert_allclose(again(images), expected, rtol=1e-3, atol=1e-5)


# The first, smallest one of each module.
FAMILIES = {module_of(name): name for name in reversed(APPLICATIONS)}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES.values())
def test_builds_at_its_least_size(name):
    keras.backend.clear_session()
    side = APPLICATIONS[name].least_side
    features = build(name.lower(), (side, side, 1))(draw_images(1, side, side, 1)).numpy()
    assert features.ndim == 2 and np.isfinite(features).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ConvNeXtTiny", "EfficientNetV2B0", "MobileNetV3Small"])
def test_saved_backbone_is_a_backbone_at_another_size(name, tmp_path):
    backbone = build(name, (32, 32, 3))
    backbone.save(tmp_path / "trunk.keras")
    rebuilt = build(str(tmp_path / "trunk.keras"), (64, 64, 3))
    direct = build(name, (64, 64, 3))
    direct.set_weights(backbone.get_weights())
    images = draw_images(1, 64, 64, 3)
    np.testing.assert_allclose(rebuilt(images), direct(images), rtol=1e-3, atol=1e-4)


def documented_layers():
    """Rows of the table of layers in docs/backbones.md."""
    text = (REPOSITORY / "docs" / "backbones.md").read_text()
    rows = text.partition("| backbone | early |")[2].partition("\n\n")[0].splitlines()[2:]
    return [(row.split("|")[1].strip(), re.findall("`(.+?)`", row)) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layers"), documented_layers())
def test_documented_layers_are_there_in_order_and_can_be_cut(name, layers):
    keras.backend.clear_session()
    network = build_network(name, 2, 2, image_shape=(96, 96, 3))
    names = [layer.name for layer in network.get_layer("backbone").layers]
    positions = [names.index(layer) for layer in layers]
    assert len(layers) == 4 and positions == sorted(positions)
    for layer in layers:
        cut_network(network, layer)
