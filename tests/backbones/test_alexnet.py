import numpy as np
import pytest

from jtln_tf.backbones.alexnet import LocalResponseNormalization
from tests.backbones.trunks import build, draw_images


# 1000 ** 2 is beyond the largest float16; its rounding is 2 ** -11.
@pytest.mark.parametrize(("dtype", "scale", "rtol"), [("float32", 100, 1e-5), ("float16", 1000, 2e-3)])
def test_normalization_agrees_with_the_formula(dtype, scale, rtol):
    maps = np.random.default_rng(0).normal(0, scale, (2, 3, 3, 7)).astype(dtype)
    expected = np.empty(maps.shape)
    for channel in range(7):
        window = maps[..., max(0, channel - 2) : channel + 3].astype(float)
        # Caffe: local_size 5, alpha 1e-4 divided by the window.
        expected[..., channel] = maps[..., channel] / (1 + 1e-4 / 5 * (window**2).sum(-1)) ** 0.75
    np.testing.assert_allclose(LocalResponseNormalization(dtype=dtype)(maps), expected, rtol)


def test_gray_images_at_the_least_size_and_the_order_of_the_layers():
    backbone = build("alexnet", (67, 67, 1), freeze_until="conv5")
    features = backbone(draw_images(1, 67, 67, 1))
    assert features.shape == (1, 4096) and np.isfinite(features).all()
    names = [layer.name for layer in backbone.layers if layer.weights or layer.name.startswith(("norm", "pool"))]
    assert " ".join(names) == "conv1 norm1 pool1 conv2 norm2 pool2 conv3 conv4 conv5 pool5 fc6 fc7"
    assert [layer.name for layer in backbone.layers if layer.trainable][0] == "pool5"
