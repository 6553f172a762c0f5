import warnings

import numpy as np
import pytest
import scipy.linalg

from jtln_tf.costs.metrics.wasserstein import wasserstein_cost


def draw(counts, dimension=3, seed=0, spread=0.5):
    """Classes of correlated features, each with a mean and a covariance of its own."""
    rng = np.random.default_rng(seed)
    classes = [
        rng.normal(size=dimension) + spread * rng.normal(size=(count, dimension)) @ rng.normal(size=(dimension,) * 2)
        for count in counts
    ]
    return np.concatenate(classes), np.repeat(np.arange(len(counts)), counts)


def gaussians(features, labels):
    for label in range(labels.max() + 1):
        rows = features[labels == label]
        yield rows.mean(axis=0), np.atleast_2d(np.cov(rows.T, bias=True))


def root_of(matrix):
    """Square root of a D x D matrix; of a singular one, of which scipy warns, as well as it can be had."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.linalg.LinAlgWarning)
        return scipy.linalg.sqrtm(matrix).real


def cost_by_matrix_roots(source, target):
    """The closed form as it is written down, with D x D roots."""
    cost = np.zeros((source[1].max() + 1, target[1].max() + 1))
    for i, (source_mean, source_covariance) in enumerate(gaussians(*source)):
        root = root_of(source_covariance)
        for j, (target_mean, target_covariance) in enumerate(gaussians(*target)):
            middle = root_of(root @ target_covariance @ root)
            cost[i, j] = ((source_mean - target_mean) ** 2).sum()
            cost[i, j] += np.trace(source_covariance + target_covariance - 2 * middle)
    return cost


@pytest.mark.parametrize(("dimension", "spread"), [(1, 0.5), (3, 5.0), (5, 1.0)])
def test_agrees_with_matrix_roots(dimension, spread):
    source = draw([8, 12, 9], dimension, spread=spread)
    target = draw([11, 7, 7, 30], dimension, seed=1, spread=spread)
    cost = wasserstein_cost(source, target)
    assert cost.shape == (3, 4) and cost.dtype == np.float64
    np.testing.assert_allclose(cost, cost_by_matrix_roots(source, target), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(wasserstein_cost(target, source), cost.T, rtol=1e-10)


@pytest.mark.parametrize(("source_counts", "target_counts"), [([2, 5, 9], [3, 3, 1]), ([1, 1], [20, 4, 6, 4])])
def test_classes_of_fewer_images_than_features(source_counts, target_counts):
    source, target = draw(source_counts, 6), draw(target_counts, 6, seed=1)
    # The oracle takes roots of singular matrices, where an eigenvalue of 1e-16 becomes 1e-8.
    np.testing.assert_allclose(wasserstein_cost(source, target), cost_by_matrix_roots(source, target), rtol=1e-5)


@pytest.mark.parametrize("dimension", [3, 40])
def test_identical_classes_cost_nothing(dimension):
    source = draw([4, 7, 5], dimension)
    cost = wasserstein_cost(source, source)
    np.testing.assert_allclose(np.diag(cost), 0, atol=1e-12 * cost.max())
    assert np.all(cost >= 0) and np.all(cost + np.eye(3) > 1e-3)
