import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jtln_tf.config import InputError
from jtln_tf.costs import double_centre, mkmmd_cost
from jtln_tf.costs.metrics.fisher import fit_fisher_encoder

pytest.importorskip("skimage")


def draw_images(count=12, side=16, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), np.uint8)


def draw_stripes(angles, side=20, seed=0):
    """Stripes of the given angles, at a drawn phase and wavelength."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    images = []
    for angle in angles:
        along = rows * np.sin(angle) + columns * np.cos(angle)
        waves = np.sin(2 * np.pi * (along / rng.uniform(6, 9) + rng.uniform()))
        images.append(127 + 80 * waves + 10 * rng.normal(size=(side, side)))
    return np.clip(images, 0, 255).astype(np.uint8)[..., None]


def fisher_by_loops(descriptors, weights, means, variances):
    """Gradient of the mean log-likelihood by weights, means and deviations, as Perronnin et al. write it; improved."""
    count = len(descriptors)
    by_weight, by_mean = np.zeros_like(weights), np.zeros_like(means)
    by_deviation = np.zeros_like(means)
    for x in descriptors:
        densities = [
            np.log(weights[k]) - 0.5 * np.sum(np.log(2 * np.pi * variances[k]) + (x - means[k]) ** 2 / variances[k])
            for k in range(len(weights))
        ]
        densities = np.exp(np.array(densities) - max(densities))
        shares = densities / densities.sum()
        for k, share in enumerate(shares):
            z = (x - means[k]) / np.sqrt(variances[k])
            by_weight[k] += (share - weights[k]) / np.sqrt(weights[k]) / count
            by_mean[k] += share * z / np.sqrt(weights[k]) / count
            # scikit-image counts the deviations downwards.
            by_deviation[k] -= share * (z**2 - 1) / np.sqrt(2 * weights[k]) / count
    vector = np.concatenate([by_weight, by_mean.ravel(), by_deviation.ravel()])
    vector = np.sign(vector) * np.sqrt(np.abs(vector))
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("channels", [1, 3])
def test_agrees_with_the_loops(channels):
    from skimage.feature import daisy

    images = draw_images(4, 16, channels)
    encoder = fit_fisher_encoder(images)
    # Luma by the weights of ITU-R BT.709.
    gray = (images / 255.0) @ ([1.0] if channels == 1 else [0.2125, 0.7154, 0.0721])
    mixture = encoder.mixture
    for vector, image in zip(encoder(images), gray, strict=True):
        # 16 pixels less 2 on each side.
        descriptors = daisy(image, step=1, radius=2, rings=2).reshape(12 * 12, 136)
        projected = (np.sqrt(descriptors) - encoder.projection.mean_) @ encoder.projection.components_.T
        expected = fisher_by_loops(projected / encoder.scale, mixture.weights_, mixture.means_, mixture.covariances_)
        np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (9, 3), (28, 1), (65, 3), (224, 1)])
def test_images_of_all_sizes(side, channels):
    images = draw_images(3, side, channels)
    encoder = fit_fisher_encoder(images)
    vectors = encoder(images)
    # 32 modes of 32 components.
    assert vectors.shape == (3, 2 * 32 * 32 + 32) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert len(np.unique(vectors, axis=0)) == 3
    np.testing.assert_array_equal(encoder(images[1:2]), vectors[1:2])


def test_images_that_are_not_square():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 70, 3), np.uint8)
    assert np.isfinite(fit_fisher_encoder(images)(images)).all()


def test_gray_and_its_rgb_are_the_same():
    gray = draw_images(6, 20)
    rgb = np.repeat(gray, 3, axis=3)
    encoder = fit_fisher_encoder(gray)
    # The weights of luma sum to 1 but for rounding.
    np.testing.assert_allclose(encoder(rgb), encoder(gray), rtol=0, atol=1e-5)


def test_brightness_and_contrast_are_not_seen():
    images = draw_stripes(np.linspace(0, 3, 12))
    encoder = fit_fisher_encoder(images)
    halved = (images // 2 * 2, images // 2 + 60)
    np.testing.assert_allclose(encoder(halved[1]), encoder(halved[0]), rtol=0, atol=1e-5)


def test_stripes_of_one_angle_are_nearest():
    angles = np.repeat([0.2, 1.0, 1.8, 2.6], 5)
    labels = np.repeat(np.arange(4), 5)
    source, target = draw_stripes(angles), draw_stripes(angles[::-1], seed=1)
    encoder = fit_fisher_encoder(np.concatenate([source, target]))
    data = (encoder(source), labels, encoder(target), labels)
    cost = mkmmd_cost(*data, num_source_classes=4, num_target_classes=4)
    np.testing.assert_array_equal(double_centre(cost).argmin(axis=0), [3, 2, 1, 0])


def test_same_digits_under_other_labels_are_nearest():
    images, labels = load_digits(return_X_y=True)
    images = np.uint8(images.reshape(-1, 8, 8, 1) * 15)
    source, target = slice(0, 200), slice(200, 400)
    encoder = fit_fisher_encoder(images[:400])
    cost = mkmmd_cost(
        encoder(images[source]),
        labels[source],
        encoder(images[target]),
        (labels[target] + 3) % 10,
        num_source_classes=10,
        num_target_classes=10,
    )
    np.testing.assert_array_equal(double_centre(cost).argmin(axis=0), (np.arange(10) - 3) % 10)


def test_blank_images_among_others():
    images = draw_images(10, 20)
    images[:4], images[4:6, :, 10:] = 255, 0
    vectors = fit_fisher_encoder(images)(images)
    assert np.isfinite(vectors).all()
    np.testing.assert_array_equal(vectors[1:4], vectors[:3])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize(("count", "side", "channels"), [(1, 8, 1), (5, 28, 3)])
def test_only_blank_images(value, count, side, channels):
    images = np.full((count, side, side, channels), value, np.uint8)
    encoder = fit_fisher_encoder(images)
    vectors = encoder(images)
    assert np.isfinite(vectors).all() and not np.ptp(vectors, axis=0).any()
    # Of others, too, an encoder that has seen nothing makes something.
    assert np.isfinite(encoder(draw_images(3, side, channels))).all()


@pytest.mark.parametrize("count", [1, 3])
def test_copies_of_one_image(count):
    images = np.repeat(draw_images(1, 8), count, axis=0)
    vectors = fit_fisher_encoder(images)(images)
    assert np.isfinite(vectors).all() and not np.ptp(vectors, axis=0).any()


def test_seed():
    images = draw_images(8, 12)
    one, same, other = (fit_fisher_encoder(images, seed)(images) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01


def test_learns_from_a_draw_of_many_images(monkeypatch):
    images = np.concatenate([np.zeros((30, 12, 12, 1), np.uint8), draw_images(30, 12)])
    monkeypatch.setattr("jtln_tf.costs.metrics.fisher._FIT_IMAGES", 20)
    monkeypatch.setattr("jtln_tf.costs.metrics.fisher._FIT_DESCRIPTORS", 200)
    encoder = fit_fisher_encoder(images)
    # Both kinds are among those drawn: a mode for what is blank, others for what is not.
    assert len(encoder.mixture.means_) == 32
    assert np.isfinite(encoder(images)).all()


def test_encoder_is_frozen():
    encoder = fit_fisher_encoder(draw_images(3, 8))
    with pytest.raises(AttributeError):
        encoder.scale = 2.0


def test_images_that_are_too_small():
    with pytest.raises(InputError, match=r"at least 8 pixels a side for Fisher vectors. Received: \[7, 20\]."):
        fit_fisher_encoder(np.zeros((3, 7, 20, 1), np.uint8))


@pytest.mark.parametrize(
    ("images", "shown"),
    [
        (np.zeros((3, 8, 8, 1), np.float32), r"float32 \[3, 8, 8, 1\]"),
        (np.zeros((3, 8, 8), np.uint8), r"uint8 \[3, 8, 8\]"),
        (np.zeros((3, 8, 8, 4), np.uint8), r"uint8 \[3, 8, 8, 4\]"),
        (np.zeros((0, 8, 8, 1), np.uint8), r"uint8 \[0, 8, 8, 1\]"),
    ],
)
def test_arrays_that_are_no_images(images, shown):
    with pytest.raises(InputError, match=rf"uint8 of shape \[B, H, W, C\] with C 1 or 3. Received: {shown}."):
        fit_fisher_encoder(images)


def test_encoder_refuses_other_images():
    encoder = fit_fisher_encoder(draw_images(3, 10))
    with pytest.raises(InputError, match=r"the size of those of the fit, \[10, 10\]. Received: \[12, 12\]."):
        encoder(draw_images(3, 12))
    with pytest.raises(InputError, match="must be uint8"):
        encoder(draw_images(3, 10) / 255.0)


def test_scikit_image_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(InputError, match=r"need the package scikit-image: pip install scikit-image\.$"):
        fit_fisher_encoder(draw_images(3, 8))
