"""Backbones that were trained on a range, under each of the three: photographs, and statistics known in advance."""

import keras
import numpy as np
import pytest
from absl import logging
from sklearn.datasets import load_sample_images

from jtln_tf.backbones import build_backbone
from jtln_tf.config import PIXEL_RANGES, NetworkConfig
from jtln_tf.config.pretrained import find_lite0_weights
from jtln_tf.data import Split
from jtln_tf.features.pixel_range import find_better_range, warn_of_pixel_range

CORNERS = [(y, x) for y in (0, 120, 240, 360) for x in (0, 180, 360, 540)]
PHOTOS = np.stack([pixels[y : y + 64, x : x + 64] for pixels in load_sample_images().images for y, x in CORNERS])


def saved_backbone(path, pixel_range, model=None):
    if model is not None:
        model.save(path)
    return build_backbone(NetworkConfig(backbone=str(path), pixel_range=pixel_range), (64, 64, 3))


def normed_model(scale, offset):
    """A model whose BatchNormalization has seen photographs in a range, by its statistics."""
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((64, 64, 3)), norm, keras.layers.ReLU(6.0)])
    pixels = (PHOTOS * scale + offset).reshape(-1, 3)
    norm.set_weights([np.ones(3), np.zeros(3), pixels.mean(0), pixels.var(0)])
    return model


@pytest.mark.parametrize(
    ("trained_on", "scaling"), [("0_255", (1, 0)), ("0_1", (1 / 255, 0)), ("-1_1", (1 / 127.5, -1))]
)
def test_the_statistics_of_a_model_tell_a_range_that_is_too_large_or_too_small(trained_on, scaling, tmp_path):
    model, found = normed_model(*scaling), {}
    for pixel_range in PIXEL_RANGES:
        backbone = saved_backbone(tmp_path / "normed.keras", pixel_range, model)
        found[pixel_range] = find_better_range(backbone, PHOTOS[::2].astype("float32"), pixel_range)
    assert found.pop(trained_on) is None
    # 0..1 and -1..1 are too close to be told apart.
    expected = PIXEL_RANGES if trained_on == "0_255" else ("0_255",)
    assert [one for one, better in found.items() if better] == [one for one in expected if one != trained_on]


@pytest.mark.slow
@pytest.mark.skipif(find_lite0_weights() is None, reason="the package of requirements-dev.txt is not installed")
def test_a_pretrained_network_that_finds_all_photographs_alike_is_told(tmp_path, monkeypatch):
    image = keras.Input((64, 64, 3))
    trunk = build_backbone(NetworkConfig(backbone="efficientnet_lite0", weights="imagenet"), (64, 64, 3))
    # Its statistics are out of reach in a model inside a model.
    trunk = keras.Model(image, trunk(image))
    warnings, split = [], Split(PHOTOS, np.zeros(len(PHOTOS), np.int32), 64, 3)
    monkeypatch.setattr(logging, "warning", lambda message, *values: warnings.append(message % values))
    for pixel_range in PIXEL_RANGES:
        warn_of_pixel_range(saved_backbone(tmp_path / "trunk.keras", pixel_range, trunk), split, pixel_range)
    assert [line.split()[0] for line in warnings] == ["--pixel_range=0_1", "--pixel_range=-1_1"]
    assert all(line.endswith("--pixel_range=0_255.") and "\n" not in line for line in warnings)
