import sys

import numpy as np
import pytest

from jtln_tf.config import InputError
from jtln_tf.costs.metrics.fisher_mkmmd import fit_fisher_encoder

feature = pytest.importorskip("skimage.feature")


def draw_images(count=12, side=16, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), np.uint8)


@pytest.fixture(autouse=True)
def small_mixtures(monkeypatch):
    monkeypatch.setattr("jtln_tf.costs.metrics.fisher_mkmmd._MODES", 4)
    monkeypatch.setattr("jtln_tf.costs.metrics.fisher_mkmmd._FIT_DESCRIPTORS", 2000)


@pytest.mark.parametrize("channels", [1, 3])
def test_vectors_are_those_of_the_projected_roots_of_daisy_descriptors(channels):
    images = draw_images(4, 16, channels)
    encoder = fit_fisher_encoder(images)
    # Luma by the weights of ITU-R BT.709.
    gray = (images / 255.0) @ ([1.0] if channels == 1 else [0.2125, 0.7154, 0.0721])
    for vector, image in zip(encoder(images), gray, strict=True):
        # 16 pixels less 2 on each side.
        descriptors = np.sqrt(feature.daisy(image, step=1, radius=2, rings=2).reshape(12 * 12, 136))
        projected = (descriptors - encoder.projection.mean_) @ encoder.projection.components_.T
        expected = feature.fisher_vector(projected / encoder.scale, encoder.mixture, improved=True)
        np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 70, 3), (96, 130, 1)])
def test_images_of_all_sizes(shape):
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8)
    vectors = fit_fisher_encoder(images)(images)
    # 4 modes of 32 components.
    assert vectors.shape == (3, 2 * 4 * 32 + 4) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(fit_fisher_encoder(images)(images), vectors)


@pytest.mark.parametrize("images", [np.full((5, 28, 28, 3), 77, np.uint8), np.repeat(draw_images(1, 8), 3, axis=0)])
def test_images_that_are_all_the_same(images):
    encoder = fit_fisher_encoder(images)
    vectors = encoder(images)
    assert np.isfinite(vectors).all() and not np.ptp(vectors, axis=0).any()
    assert np.isfinite(encoder(draw_images(3, *images.shape[2:]))).all()


def test_small_images_and_scikit_image_not_installed(monkeypatch):
    with pytest.raises(InputError, match=r"at least 8 pixels a side for Fisher vectors. Received: \[7, 20\]."):
        fit_fisher_encoder(np.zeros((3, 7, 20, 1), np.uint8))
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(InputError, match=r"need the package scikit-image: pip install scikit-image\.$"):
        fit_fisher_encoder(draw_images(3, 8))
