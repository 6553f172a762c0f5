import numpy as np

from jtln_tf.backbones import LocalResponseNormalization
from tests.backbones.trunks import build, draw_images


def test_normalization_agrees_with_the_formula():
    maps = np.random.default_rng(0).normal(0, 100, (2, 3, 3, 7)).astype("float32")
    expected = np.empty_like(maps)
    for channel in range(7):
        window = maps[..., max(0, channel - 2) : channel + 3]
        # Caffe: local_size 5, alpha 1e-4 divided by the window.
        expected[..., channel] = maps[..., channel] / (1 + 1e-4 / 5 * (window**2).sum(-1)) ** 0.75
    np.testing.assert_allclose(LocalResponseNormalization()(maps), expected, rtol=1e-5)


def test_normalization_keeps_large_half_precision_values_finite():
    # 1000 ** 2 is beyond the largest float16.
    actual = LocalResponseNormalization(dtype="float16")(np.full((1, 1, 1, 5), 1000.0, "float16")).numpy()
    assert actual.dtype == np.float16
    assert np.isfinite(actual).all() and (actual > 0).all()


def test_gray_images_at_the_least_size_equal_their_repetition():
    gray = build("alexnet", (67, 67, 1), freeze_until="conv5")
    rgb = build("alexnet", (67, 67, 3))
    rgb.set_weights(gray.get_weights())
    images = draw_images(1, 67, 67, 1)
    features = gray(images)
    assert features.shape == (1, 4096) and np.isfinite(features).all()
    np.testing.assert_allclose(features, rgb(images.repeat(3, -1)), rtol=1e-4, atol=1e-4)
    names = [layer.name for layer in gray.layers if layer.weights or layer.name.startswith(("norm", "pool"))]
    assert " ".join(names) == "conv1 norm1 pool1 conv2 norm2 pool2 conv3 conv4 conv5 pool5 fc6 fc7"
    assert [layer.name for layer in gray.layers if layer.trainable][0] == "pool5"
