"""Backbones of KerasHub. Tiny ones are saved as presets here: nothing is downloaded."""

import importlib.util
import json

import keras
import numpy as np
import pytest

from jtln_tf.backbones import check_backbone_files
from jtln_tf.config import InputError, MissingInputError, NetworkConfig
from tests.backbones.trunks import build, draw_images

has_kerashub = importlib.util.find_spec("keras_hub") is not None
needs_kerashub = pytest.mark.skipif(not has_kerashub, reason="keras-hub is not installed: pip install '.[kerashub]'")
SCALE, OFFSET = [0.02, 0.01, 0.005], [-1.0, -0.5, 0.25]
SIDE = 32
SHAPE = (SIDE, SIDE, 3)


@pytest.fixture
def hub():
    return pytest.importorskip("keras_hub")


def resnet(hub, **options):
    sizes = {"input_conv_filters": [64], "input_conv_kernel_sizes": [7], "stackwise_num_filters": [64, 64]}
    stacks = {"stackwise_num_blocks": [1, 1], "stackwise_num_strides": [1, 2], "block_type": "basic_block"}
    return hub.models.ResNetBackbone(**sizes, **stacks, **options)


def vit(hub, **options):
    sizes = {"patch_size": 16, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 16}
    return hub.models.ViTBackbone(image_shape=SHAPE, **sizes, **options)


def dinov2(hub):
    sizes = {"patch_size": 16, "num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 16}
    return hub.models.DINOV2Backbone(image_shape=SHAPE, position_embedding_shape=(48, 48, 3), **sizes)


def hgnetv2(hub):
    sizes = {"depths": [1, 1], "embedding_size": 8, "hidden_sizes": [8, 16], "stem_channels": [3, 8, 8]}
    stages = {"stackwise_stage_filters": [[8, 8, 8, 1, 2, 3], [8, 8, 16, 1, 2, 3]], "apply_downsample": [False, True]}
    kinds = {"hidden_act": "relu", "use_learnable_affine_block": False, "use_lightweight_conv_block": [False, False]}
    return hub.models.HGNetV2Backbone(**sizes, **stages, **kinds)


def save_preset(hub, backbone, folder, *, converter=True):
    """Writes a preset whose weights and BatchNormalization statistics are not those of a new model."""
    rng = np.random.default_rng(0)
    for variable in backbone.variables:
        if "interpolated" not in variable.path:
            variable.assign(np.abs(rng.normal(1, 0.2, variable.shape)) - ("variance" not in variable.path))
    backbone.save_to_preset(str(folder))
    if converter:
        classes = [value for name, value in vars(hub.layers).items() if name.endswith("ImageConverter")]
        cls = next(each for each in classes if getattr(each, "backbone_cls", None) is type(backbone))
        cls(image_size=(SIDE, SIDE), scale=SCALE, offset=OFFSET).save_to_preset(str(folder))
    return f"kerashub:{folder}"


POOLED = {
    resnet: lambda maps: np.mean(maps, (1, 2)),
    hgnetv2: lambda maps: np.mean(maps["stage2"], (1, 2)),
    # Its embeddings of positions are interpolated.
    dinov2: lambda tokens: np.array(tokens)[:, 0],
}


@needs_kerashub
@pytest.mark.parametrize("make", POOLED)
def test_features_are_those_of_kerashub_at_another_size(make, hub, tmp_path):
    images, shape = draw_images(1, 48, 48, 3), (48, 48, 3)
    name = save_preset(hub, make(hub), tmp_path / "preset")
    pixels = images * np.float32(SCALE) + np.float32(OFFSET)
    backbone = hub.models.Backbone.from_preset(str(tmp_path / "preset"), image_shape=shape)
    expected = POOLED[make](backbone({"images": pixels} if isinstance(backbone.input, dict) else pixels))
    assert np.std(expected) > 1e-3
    np.testing.assert_allclose(build(name, shape)(images), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@needs_kerashub
def test_pooling_agrees_with_kerashubs_own_classifier_and_a_size_that_is_not_possible_is_told(hub, tmp_path):
    backbone, images = vit(hub), draw_images(2, *SHAPE)
    name = save_preset(hub, backbone, tmp_path / "vit")
    task = hub.models.ViTImageClassifier(backbone=backbone, preprocessor=None, num_classes=3)
    kernel, bias = task.output_dense.get_weights()
    expected = task(images * np.float32(SCALE) + np.float32(OFFSET))
    np.testing.assert_allclose(build(name, SHAPE)(images).numpy() @ kernel + bias, expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError, match="`image_shape` must fit .*vit, made for 32 x 32 pixels. Received: 48 x 48 "):
        build(name, (48, 48, 3))


@needs_kerashub
def test_what_is_no_preset_of_an_image_model_is_told(hub, tmp_path, monkeypatch):
    def refuse(name, message):
        with pytest.raises(InputError, match=message) as caught:
            build(name, SHAPE)
        assert "\n" not in str(caught.value)

    cannot = "preset of an image model that can be loaded. Received: "
    refuse("kerashub:resnet_18_imagenett", r"one of the \d+ presets of KerasHub, such as .*resnet_18_imagenet.*, or an")
    refuse(save_preset(hub, vit(hub), tmp_path / "bare", converter=False), f"{cannot}.*image_converter.json")
    gray = save_preset(hub, resnet(hub, image_shape=(None, None, 1)), tmp_path / "gray")
    refuse(gray, r"a model of RGB images. Received: .*\[\[None, None, 1\]\]")
    name = save_preset(hub, vit(hub), tmp_path / "damaged")
    (tmp_path / "damaged" / "model.weights.h5").write_bytes(b"no weights")
    refuse(name, f"{cannot}.*damaged")
    for layer, message in ((keras.layers.Lambda(lambda x: x), "Lambda"), (keras.layers.ReLU(), "converter is a ReLU")):
        text = json.dumps(keras.saving.serialize_keras_object(layer))
        (tmp_path / "damaged" / "image_converter.json").write_text(text)
        refuse(name, f"{cannot}.*{message}")
    monkeypatch.setattr("jtln_tf.backbones.kerashub.can_reach", lambda _: True)
    monkeypatch.setattr("kagglehub.model_download", lambda *args, **options: 1 / 0)
    refuse("kerashub:resnet_18_imagenet", rf"{cannot}'kerashub:resnet_18_imagenet' \(division by zero\)")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    monkeypatch.setattr("jtln_tf.backbones.kerashub.can_reach", lambda _: False)
    refuse("kerashub:resnet_18_imagenet", f"cannot be reached. Received: no folder '{tmp_path}/models/keras/resnetv")


def test_the_package_and_the_folder_must_be_there(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"=kerashub:x needs the package keras-hub: pip install '.\[kerashub\]'"):
        check_backbone_files(NetworkConfig(backbone="kerashub:x"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(MissingInputError, match="existing folder after kerashub:. Received: 'kerashub:./no'"):
        check_backbone_files(NetworkConfig(backbone="kerashub:./no"))
