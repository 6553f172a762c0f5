"""Backbones of KerasHub. Tiny ones are saved as presets here: nothing is downloaded."""

import importlib.util
import json
import shutil

import keras
import numpy as np
import pytest

import jtln_tf as jt
from jtln_tf.backbones import build_backbone, identify_backbone
from jtln_tf.config import InputError, MissingInputError
from jtln_tf.export import check_export
from jtln_tf.features import fingerprint_model
from jtln_tf.network import build_network, cut_network

has_kerashub = importlib.util.find_spec("keras_hub") is not None
needs_kerashub = pytest.mark.skipif(not has_kerashub, reason="keras-hub is not installed: pip install '.[kerashub]'")
SCALE, OFFSET = [0.02, 0.01, 0.005], [-1.0, -0.5, 0.25]
SIDE = 32


def resnet(hub, **options):
    return hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        **options,
    )


def vit(hub, **options):
    sizes = {"patch_size": 16, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 16}
    return hub.models.ViTBackbone(**{"image_shape": (SIDE, SIDE, 3), **sizes, **options})


def deit(hub, **options):
    sizes = {"patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
    return hub.models.DeiTBackbone(image_shape=(SIDE, SIDE, 3), **sizes, **options)


def swin(hub, **options):
    sizes = {"patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
    return hub.models.SwinTransformerBackbone(image_shape=(SIDE, SIDE, 3), **sizes, **options)


def dinov2(hub, **options):
    sizes = {"patch_size": 16, "num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 16}
    return hub.models.DINOV2Backbone(
        image_shape=(SIDE, SIDE, 3), position_embedding_shape=(48, 48, 3), **sizes, **options
    )


def efficientnet(hub, **options):
    return hub.models.EfficientNetBackbone(
        stackwise_width_coefficients=[0.2, 0.2],
        stackwise_depth_coefficients=[1.0, 1.0],
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[1, 1],
        stackwise_input_filters=[32, 16],
        stackwise_output_filters=[16, 24],
        stackwise_expansion_ratios=[1, 4],
        stackwise_squeeze_and_excite_ratios=[0.25, 0.25],
        stackwise_strides=[1, 2],
        stackwise_block_types=["v1", "unfused"],
        num_features=1280,
        **options,
    )


def hgnetv2(hub, **options):
    return hub.models.HGNetV2Backbone(
        depths=[1, 1],
        embedding_size=8,
        hidden_sizes=[8, 16],
        stem_channels=[3, 8, 8],
        hidden_act="relu",
        use_learnable_affine_block=False,
        stackwise_stage_filters=[[8, 8, 8, 1, 2, 3], [8, 8, 16, 1, 2, 3]],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, False],
        **options,
    )


@pytest.fixture
def hub():
    return pytest.importorskip("keras_hub")


def save_preset(hub, backbone, folder, *, converter=True):
    """Writes a preset whose weights and BatchNormalization statistics are not those of a new model."""
    rng = np.random.default_rng(0)
    for variable in backbone.variables:
        if "interpolated" not in variable.path:
            noise = rng.normal(0, 0.2, variable.shape)
            variable.assign(1 + np.abs(noise) if "variance" in variable.path else noise)
    backbone.save_to_preset(str(folder))
    if converter:
        cls = next(
            value
            for name, value in vars(hub.layers).items()
            if name.endswith("ImageConverter") and getattr(value, "backbone_cls", None) is type(backbone)
        )
        cls(image_size=(SIDE, SIDE), scale=SCALE, offset=OFFSET).save_to_preset(str(folder))
    return f"kerashub:{folder}"


def draw_images(*shape):
    return np.random.default_rng(1).uniform(0, 255, shape).astype("float32")


def hub_output(hub, name, images, **options):
    """What KerasHub itself makes of the images: its converter, then its backbone."""
    preset = name.removeprefix("kerashub:")
    pixels = hub.layers.ImageConverter.from_preset(preset, image_size=None)(images)
    backbone = hub.models.Backbone.from_preset(preset, **options)
    return backbone({next(iter(backbone.input)): pixels} if isinstance(backbone.input, dict) else pixels)


POOLED = {
    resnet: lambda maps: np.mean(maps, (1, 2)),
    efficientnet: lambda maps: np.mean(maps, (1, 2)),
    hgnetv2: lambda maps: np.mean(maps["stage2"], (1, 2)),
    vit: lambda tokens: np.array(tokens)[:, 0],
    deit: lambda tokens: np.array(tokens)[:, 0],
    dinov2: lambda tokens: np.array(tokens)[:, 0],
    swin: lambda tokens: np.mean(tokens, 1),
}


@needs_kerashub
@pytest.mark.parametrize("make", POOLED, ids=lambda make: make.__name__)
def test_features_are_those_of_kerashub(make, hub, tmp_path):
    name = save_preset(hub, make(hub), tmp_path / "preset")
    images = draw_images(2, SIDE, SIDE, 3)
    expected = POOLED[make](hub_output(hub, name, images))
    backbone = build_backbone(name, (SIDE, SIDE, 3))
    assert backbone.name == "backbone" and backbone.output.shape == (None, expected.shape[1])
    assert np.std(expected) > 1e-3
    np.testing.assert_allclose(backbone(images), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    # The layers know of the graph that they stand in: this is where a frozen trunk ends.
    inner = [layer for layer in backbone.layers[2:] if isinstance(layer.output, keras.KerasTensor)]
    half = keras.Model(backbone.input, inner[0].output)
    assert half(images).shape[0] == 2
    assert fingerprint_model(backbone) != fingerprint_model(half)


@needs_kerashub
def test_pooling_agrees_with_kerashubs_own_classifiers(hub, tmp_path):
    for make, classifier in ((vit, "ViT"), (deit, "DeiT"), (swin, "SwinTransformer"), (resnet, "ResNet")):
        backbone = make(hub)
        name = save_preset(hub, backbone, tmp_path / classifier)
        task = vars(hub.models)[f"{classifier}ImageClassifier"](backbone=backbone, preprocessor=None, num_classes=3)
        images = draw_images(2, SIDE, SIDE, 3)
        kernel, bias = task.output_dense.get_weights()
        features = build_backbone(name, (SIDE, SIDE, 3))(images).numpy()
        expected = task(images * np.float32(SCALE) + np.float32(OFFSET))
        np.testing.assert_allclose(features @ kernel + bias, expected, rtol=1e-3, atol=1e-3)


@needs_kerashub
def test_a_transformer_without_a_class_token_gives_the_mean(hub, tmp_path):
    name = save_preset(hub, vit(hub, use_class_token=False), tmp_path / "preset")
    images = draw_images(2, SIDE, SIDE, 3)
    expected = np.mean(hub_output(hub, name, images), 1)
    np.testing.assert_allclose(build_backbone(name, (SIDE, SIDE, 3))(images), expected, rtol=1e-3, atol=1e-4)


@needs_kerashub
@pytest.mark.parametrize("side", [48, 96])
def test_other_image_sizes(side, hub, tmp_path):
    images = draw_images(1, side, side, 3)
    name = save_preset(hub, resnet(hub), tmp_path / "resnet")
    expected = np.mean(hub_output(hub, name, images), (1, 2))
    np.testing.assert_allclose(build_backbone(name, (side, side, 3))(images), expected, rtol=1e-3, atol=1e-3)
    # Its embeddings of positions are interpolated.
    name = save_preset(hub, dinov2(hub), tmp_path / "dinov2")
    expected = np.array(hub_output(hub, name, images, image_shape=(side, side, 3)))[:, 0]
    np.testing.assert_allclose(build_backbone(name, (side, side, 3))(images), expected, rtol=1e-3, atol=1e-4)


@needs_kerashub
@pytest.mark.parametrize("side", [48, 40])
def test_an_image_size_that_is_not_possible_is_told(side, hub, tmp_path):
    name = save_preset(hub, vit(hub), tmp_path / "vit")
    with pytest.raises(
        InputError, match=f"`image_shape` must fit .*vit, made for 32 x 32 pixels. Received: {side} x {side} "
    ) as caught:
        build_backbone(name, (side, side, 3))
    assert "\n" not in str(caught.value)


@needs_kerashub
def test_gray_images_are_repeated(hub, tmp_path):
    name = save_preset(hub, resnet(hub), tmp_path / "preset")
    images = draw_images(2, SIDE, SIDE, 1)
    expected = build_backbone(name, (SIDE, SIDE, 3))(images.repeat(3, -1))
    np.testing.assert_allclose(build_backbone(name, (SIDE, SIDE, 1))(images), expected, rtol=1e-3, atol=1e-4)


@needs_kerashub
def test_a_network_is_trained_cut_and_exported(hub, tmp_path):
    name = save_preset(hub, resnet(hub), tmp_path / "preset")
    network = build_network(
        name, 3, 2, image_shape=(SIDE, SIDE, 3), freeze_until="stack0_block0_out", batchnorm="per_domain"
    )
    images = draw_images(4, SIDE, SIDE, 3)
    trunk, rest = cut_network(network, "stack0_block0_out")
    for head, probabilities in rest(trunk(images)).items():
        np.testing.assert_allclose(probabilities, network(images)[head], atol=1e-5)
    trainable = {variable.path.split("/")[0] for variable in network.get_layer("backbone").trainable_variables}
    assert trainable and all(layer.startswith("stack1") for layer in trainable)
    model = jt.JointModel(network, transport_weight=0.0)
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    batch = (images, np.array([0, 1, 1, 0], np.int32))
    model.train_step({"source": batch, "target": batch})
    jt.export_network(network, tmp_path / "export", source_classes=list("abc"), target_classes=list("xy"))
    assert check_export(network, tmp_path / "export", np.rint(images)) < 1e-5


@needs_kerashub
def test_blocks_of_layers_are_frozen_and_cannot_be_of_each_domain(hub, tmp_path):
    name = save_preset(hub, hgnetv2(hub), tmp_path / "preset")
    frozen = build_backbone(name, (SIDE, SIDE, 3), batchnorm="frozen")
    images = draw_images(3, SIDE, SIDE, 3)
    np.testing.assert_allclose(frozen(images, training=True), frozen(images, training=False), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="`batchnorm` must be train or frozen for .* inside of other layers"):
        build_backbone(name, (SIDE, SIDE, 3), batchnorm="per_domain")


@needs_kerashub
def test_the_identity_follows_the_content(hub, tmp_path):
    name = save_preset(hub, vit(hub), tmp_path / "one" / "preset")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    copy = f"kerashub:{tmp_path / 'two' / 'preset'}"
    assert identify_backbone(name) == identify_backbone(copy) == identify_backbone(f"{copy}/")
    (tmp_path / "two" / "preset" / "metadata.json").write_text("{}")
    assert identify_backbone(name) == identify_backbone(copy)
    path = tmp_path / "two" / "preset" / "image_converter.json"
    path.write_text(path.read_text().replace("0.02", "0.03"))
    assert identify_backbone(name) != identify_backbone(copy)
    assert identify_backbone("kerashub:vit_Base") == "kerashub:vit_Base"


@needs_kerashub
def test_what_is_no_preset_of_an_image_model_is_told(hub, tmp_path):
    with pytest.raises(InputError, match=r"one of the \d+ presets of KerasHub, such as .*resnet_18_imagenet.*, or an"):
        build_backbone("kerashub:resnet_18_imagenett", (SIDE, SIDE, 3))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="preset of an image model that can be loaded. Received: .*config.json"):
        build_backbone(f"kerashub:{tmp_path / 'empty'}", (SIDE, SIDE, 3))
    name = save_preset(hub, vit(hub), tmp_path / "bare", converter=False)
    with pytest.raises(InputError, match="image model that can be loaded. Received: .*image_converter.json") as caught:
        build_backbone(name, (SIDE, SIDE, 3))
    assert "\n" not in str(caught.value)
    sizes = {"num_layers": 1, "num_heads": 1, "hidden_dim": 4, "intermediate_dim": 4, "max_sequence_length": 4}
    hub.models.BertBackbone(vocabulary_size=8, **sizes).save_to_preset(str(tmp_path / "text"))
    with pytest.raises(InputError, match="preset of an image model that can be loaded. Received: .*BertBackbone"):
        build_backbone(f"kerashub:{tmp_path / 'text'}", (SIDE, SIDE, 3))
    name = save_preset(hub, vit(hub), tmp_path / "damaged")
    (tmp_path / "damaged" / "model.weights.h5").write_bytes(b"no weights")
    with pytest.raises(InputError, match="image model that can be loaded. Received: .*damaged"):
        build_backbone(name, (SIDE, SIDE, 3))


@needs_kerashub
def test_a_failed_download_is_one_line(hub, monkeypatch):
    def fail(*args, **kwargs):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("kagglehub.model_download", fail)
    with pytest.raises(InputError, match=r"can be loaded. Received: 'kerashub:resnet_18_imagenet' \(no route\)"):
        build_backbone("kerashub:resnet_18_imagenet", (SIDE, SIDE, 3))


@needs_kerashub
def test_gray_presets_are_refused(hub, tmp_path):
    name = save_preset(hub, resnet(hub, image_shape=(None, None, 1)), tmp_path / "gray")
    with pytest.raises(InputError, match=r"a model of RGB images. Received: .*\[\[None, None, 1\]\]"):
        build_backbone(name, (SIDE, SIDE, 3))


@needs_kerashub
def test_what_a_preset_names_beside_a_converter_is_refused(hub, tmp_path):
    name = save_preset(hub, vit(hub), tmp_path / "preset")
    path = tmp_path / "preset" / "image_converter.json"
    for layer, message in ((keras.layers.Lambda(lambda x: x), "Lambda"), (keras.layers.ReLU(), "converter is a ReLU")):
        path.write_text(json.dumps(keras.saving.serialize_keras_object(layer)))
        with pytest.raises(InputError, match=f"can be loaded. Received: .*{message}"):
            build_backbone(name, (SIDE, SIDE, 3))


def test_kerashub_must_be_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"`backbone`=kerashub:x needs the package keras-hub: pip install '.\[kerashub\]'"
    ):
        build_backbone("kerashub:x", (SIDE, SIDE, 3))


def test_a_name_must_be_given():
    with pytest.raises(InputError, match="`backbone` must be kerashub: and a preset's name or folder"):
        build_backbone("kerashub:", (SIDE, SIDE, 3))


def test_a_folder_that_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(
        MissingInputError, match="must name an existing folder after kerashub:. Received: 'kerashub:./no'"
    ):
        build_backbone("kerashub:./no", (SIDE, SIDE, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "imagenet"}, "`weights` must be none for a .keras or kerashub: `backbone`, which has its own"),
        ({"pixel_range": "0_1"}, "`pixel_range` must be 0_255 for kerashub:x, which scales pixels itself"),
    ],
)
def test_presets_bring_their_own(options, message):
    with pytest.raises(InputError, match=message):
        build_backbone("kerashub:x", (SIDE, SIDE, 3), **options)
