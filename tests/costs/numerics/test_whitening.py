import numpy as np
from sklearn.covariance import LedoitWolf

from jtln_tf.costs.numerics.whitening import fit_whitening
from tests.costs.conftest import draw_features


def test_many_images_have_the_identity_inside_classes():
    features, labels = draw_features([4000, 2000, 3000], dimension=5, spread=np.array([0.5, 1.0, 2.0, 4.0, 3.0]))
    whitened = features @ fit_whitening([(features, labels)])
    covariances = [np.cov(whitened[labels == label].T) for label in range(3)]
    np.testing.assert_allclose(np.average(covariances, axis=0, weights=[3999, 1999, 2999]), np.eye(5), atol=0.05)


def test_few_images_are_shrunk_as_far_as_ledoit_and_wolf_say():
    features, labels = draw_features([4, 4, 4], dimension=20)
    whiten = fit_whitening([(features, labels)])
    means = np.stack([features[labels == label].mean(0) for label in range(3)])
    expected = LedoitWolf(assume_centered=True).fit((features - means[labels]) * np.sqrt(4 / 3)).covariance_
    np.testing.assert_allclose(whiten @ whiten.T, np.linalg.inv(expected), rtol=1e-6, atol=1e-8)


def test_domains_are_pooled_and_classes_of_one_image_tell_nothing():
    one, other = draw_features([50, 30], 5), draw_features([40, 60], 5, seed=1)
    pooled = np.concatenate([one[0], other[0], [[1e3] * 5]]), np.concatenate([one[1], other[1] + 2, [4]])
    np.testing.assert_allclose(fit_whitening([one, other]), fit_whitening([pooled]), rtol=1e-9, atol=1e-12)


def test_nothing_to_estimate_from_one_direction_and_very_many():
    np.testing.assert_array_equal(fit_whitening([(np.arange(12.0).reshape(4, 3), np.arange(4))]), np.eye(3))
    np.testing.assert_array_equal(fit_whitening([(np.full((6, 3), 0.7), np.arange(6) % 2)]), np.eye(3))
    features = np.outer([0.0, 1.0, 2.0, 0.0, 1.0, 2.0], [1.0, 1.0, 0.0])
    assert np.isfinite(features @ fit_whitening([(features, np.array([0, 0, 0, 1, 1, 1]))])).all()
    assert fit_whitening([(np.ones((2, 4097)), np.array([0, 0]))]) is None
