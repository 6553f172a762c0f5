import re
import sys

import keras
import numpy as np
import pytest

from jtln_tf.backbones import applications
from jtln_tf.backbones.applications import APPLICATIONS
from jtln_tf.backbones.pixels import scale_pixels
from jtln_tf.backbones.registry import NAMED_BACKBONES
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


def test_every_keras_application_has_the_scaling_of_its_module():
    items = vars(keras.applications).items()
    constructors = {name: item for name, item in items if callable(item) and not name.startswith("_")}
    assert (
        set(constructors) == set(APPLICATIONS) == set(NAMED_BACKBONES) - {"small_cnn", "efficientnet_lite0", "alexnet"}
    )
    images = draw_images(1, 2, 2, 3)
    for name, constructor in constructors.items():
        expected = sys.modules[constructor.__module__].preprocess_input(images.copy())
        np.testing.assert_array_equal(PREPROCESS[APPLICATIONS[name].scaling](images.copy()), expected, name)


def test_raw_pixels_reach_the_trunk_scaled():
    backbone = build("mobilenet", (32, 32, 1))
    trunk = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3))
    trunk.set_weights(backbone.get_weights())
    images = draw_images(2, 32, 32, 1)
    expected = trunk(images.repeat(3, -1) / 127.5 - 1).numpy().mean((1, 2))
    np.testing.assert_allclose(backbone(images), expected, rtol=1e-4, atol=1e-5)


def test_failed_download_is_one_line(monkeypatch):
    def fail(*args, **kwargs):
        raise Exception("URL fetch failure on https://example.org\nmore")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", fail)
    monkeypatch.setattr(applications, "can_reach", lambda _: True)
    with pytest.raises(InputError, match=r"must be downloaded by keras for VGG16.*org\. Hint: [^\n]*$"):
        build("VGG16", (48, 48, 3), weights="imagenet")


def test_without_a_network_nothing_is_tried(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(applications, "can_reach", lambda _: False)
    with pytest.raises(InputError, match=rf"for MobileNetV2, from http.*no file of it in '{tmp_path}/models'\. Hint"):
        build("MobileNetV2", (32, 32, 3), weights="imagenet")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5").touch()
    applications.check_download("MobileNetV2")


@pytest.mark.slow
def test_imagenet_efficientnet_has_the_graph_of_the_plain_one(monkeypatch, tmp_path):
    donor = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    normalization = next(layer for layer in donor.layers if isinstance(layer, keras.layers.Normalization))
    normalization.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]) ** 2, np.array(0)])
    donor.save_weights(tmp_path / "donor.weights.h5")
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *a, **k: str(tmp_path / "donor.weights.h5"))
    monkeypatch.setattr(applications, "can_reach", lambda _: True)
    official = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    backbone = build("EfficientNetB0", (32, 32, 3), weights="imagenet")
    images = draw_images(2, 32, 32, 3)
    expected = official(images).numpy().mean((1, 2))
    np.testing.assert_allclose(backbone(images), expected, rtol=1e-3, atol=1e-5)
    backbone.save_weights(tmp_path / "ours.weights.h5")
    again = build("EfficientNetB0", (32, 32, 3), weights=str(tmp_path / "ours.weights.h5"))
    np.testing.assert_allclose(again(images), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_saved_backbone_is_a_backbone_at_another_size(tmp_path):
    name = "ConvNeXtTiny"
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
def test_documented_layers_are_there_at_the_least_size_and_can_be_cut(name, layers):
    keras.backend.clear_session()
    side = NAMED_BACKBONES[name].least_side
    network = build_network(name, 2, 2, image_shape=(side, side, 1))
    names = [layer.name for layer in network.get_layer("backbone").layers]
    positions = [names.index(layer) for layer in layers]
    assert len(layers) == 4 and positions == sorted(positions)
    for layer in layers[:3]:
        cut_network(network, layer)
    assert np.isfinite(network(draw_images(1, side, side, 1))["target"]).all()
