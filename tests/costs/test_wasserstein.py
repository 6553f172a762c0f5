import warnings

import numpy as np
import ot
import pytest
import scipy.linalg

from jtln_tf.config import InputError
from jtln_tf.costs.metrics.wasserstein import wasserstein_cost


def draw_features(counts, dimension=3, seed=0, spread=0.5):
    """Classes of correlated features, each with a mean and a covariance of its own."""
    rng = np.random.default_rng(seed)
    classes = [
        rng.normal(size=dimension) + spread * rng.normal(size=(count, dimension)) @ rng.normal(size=(dimension,) * 2)
        for count in counts
    ]
    return np.concatenate(classes), np.repeat(np.arange(len(counts)), counts)


def cost_of(source, target):
    (source_features, source_labels), (target_features, target_labels) = source, target
    return wasserstein_cost(
        source_features,
        source_labels,
        target_features,
        target_labels,
        num_source_classes=source_labels.max() + 1,
        num_target_classes=target_labels.max() + 1,
    )


def gaussians(features, labels):
    classes = [np.asarray(features, np.float64)[labels == label] for label in range(labels.max() + 1)]
    return (
        np.stack([rows.mean(axis=0) for rows in classes]),
        np.stack([np.atleast_2d(np.cov(rows.T, bias=True)) for rows in classes]),
    )


def root_of(matrix):
    """Square root of a D x D matrix; of a singular one, of which scipy warns, as well as it can be had."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.linalg.LinAlgWarning)
        return scipy.linalg.sqrtm(matrix).real


def cost_by_matrix_roots(source, target):
    """The closed form as it is written down, with D x D roots."""
    cost = np.zeros((source[1].max() + 1, target[1].max() + 1))
    for i, (source_mean, source_covariance) in enumerate(zip(*gaussians(*source), strict=True)):
        root = root_of(source_covariance)
        for j, (target_mean, target_covariance) in enumerate(zip(*gaussians(*target), strict=True)):
            middle = root_of(root @ target_covariance @ root)
            cost[i, j] = ((source_mean - target_mean) ** 2).sum()
            cost[i, j] += np.trace(source_covariance + target_covariance - 2 * middle)
    return cost


def cost_by_pot(source, target):
    (source_means, source_covariances), (target_means, target_covariances) = gaussians(*source), gaussians(*target)
    distances = ot.gaussian.bures_wasserstein_distance(
        source_means, target_means, source_covariances, target_covariances
    )
    return distances**2


@pytest.mark.parametrize("oracle", [cost_by_matrix_roots, cost_by_pot])
@pytest.mark.parametrize(("dimension", "spread"), [(1, 0.5), (3, 0.5), (3, 5.0), (5, 1.0)])
def test_agrees_with_other_solvers(oracle, dimension, spread):
    source = draw_features([8, 12, 9], dimension, spread=spread)
    target = draw_features([11, 7, 7, 30], dimension, seed=1, spread=spread)
    cost = cost_of(source, target)
    assert cost.shape == (3, 4) and cost.dtype == np.float64
    np.testing.assert_allclose(cost, oracle(source, target), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("source_counts", "target_counts"), [([2, 5, 9], [3, 3, 1]), ([1, 1], [20, 4, 6, 4])])
def test_agrees_where_classes_have_fewer_images_than_features(source_counts, target_counts):
    source, target = draw_features(source_counts, 6), draw_features(target_counts, 6, seed=1)
    # The oracle takes roots of singular matrices, where an eigenvalue of 1e-16 becomes 1e-8.
    np.testing.assert_allclose(cost_of(source, target), cost_by_matrix_roots(source, target), rtol=1e-5)


def test_one_feature_in_closed_form():
    source, target = draw_features([5, 8], 1), draw_features([4, 6, 3], 1, seed=1)
    source_moments, target_moments = (
        np.array([[x[labels == label].mean(), x[labels == label].std()] for label in range(labels.max() + 1)])
        for x, labels in (source, target)
    )
    expected = ((source_moments[:, None] - target_moments[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(cost_of(source, target), expected, rtol=1e-12)


def test_shifted_and_stretched_class_in_closed_form():
    features, labels = draw_features([40], 4)
    mean = features.mean(axis=0)
    # Scaling by s about the mean moves each image by (s - 1) (x - mean), and that map is optimal.
    stretched = mean + 3.0 * (features - mean) + np.array([1.0, -2.0, 0.5, 0.0])
    expected = 4.0 * ((features - mean) ** 2).sum(axis=1).mean() + 5.25
    np.testing.assert_allclose(cost_of((features, labels), (stretched, labels)), [[expected]], rtol=1e-12)


def test_classes_of_one_image_are_points():
    source, target = draw_features([1, 1, 1], 7), draw_features([1, 1], 7, seed=1)
    expected = ((source[0][:, None] - target[0][None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(cost_of(source, target), expected, rtol=1e-12)


@pytest.mark.parametrize("dimension", [3, 40])
def test_identical_classes_cost_nothing(dimension):
    source = draw_features([4, 7, 5], dimension)
    cost = cost_of(source, source)
    np.testing.assert_allclose(np.diag(cost), 0, atol=1e-12 * cost.max())
    np.testing.assert_allclose(cost, cost.T, rtol=1e-12, atol=1e-12 * cost.max())
    assert np.all(cost >= 0) and np.all(cost + np.eye(3) > 1e-3)


@pytest.mark.parametrize("dimension", [2, 20])
def test_every_image_twice_is_the_same_class(dimension):
    (features, labels), target = draw_features([4, 6], dimension), draw_features([5, 3], dimension, seed=1)
    twice = (np.concatenate([features, features]), np.concatenate([labels, labels]))
    np.testing.assert_allclose(cost_of(twice, target), cost_of((features, labels), target), rtol=1e-10)


def test_constant_features():
    source, target = (np.full((6, 3), 0.7), np.arange(6) % 2), (np.full((4, 3), 0.7), np.arange(4) % 2)
    np.testing.assert_allclose(cost_of(source, target), 0, atol=1e-24)
    features, labels = draw_features([5, 4])
    wider = np.concatenate([features, np.full((len(features), 3), 2.5)], axis=1)
    np.testing.assert_allclose(
        cost_of((wider, labels), (wider, labels)), cost_of((features, labels), (features, labels)), atol=1e-12
    )


def test_large_common_offset_loses_few_digits():
    (source, source_labels), (target, target_labels) = draw_features([8, 12]), draw_features([9, 7], seed=1)
    near = cost_of((source, source_labels), (target, target_labels))
    far = cost_of((source + 1e6, source_labels), (target + 1e6, target_labels))
    # Features keep 1e-10 of their last digits there.
    np.testing.assert_allclose(far, near, rtol=1e-8)


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_grows_with_the_square_of_the_unit(unit):
    (source, source_labels), (target, target_labels) = draw_features([8, 2], 5), draw_features([9, 1], 5, seed=1)
    expected = cost_of((source, source_labels), (target, target_labels))
    cost = cost_of((unit * source, source_labels), (unit * target, target_labels))
    np.testing.assert_allclose(cost / unit**2, expected, rtol=1e-9)


def test_order_of_images_and_sides():
    source, target = draw_features([4, 7, 5], 6), draw_features([6, 3], 6, seed=1)
    order = np.random.default_rng(2).permutation(len(source[0]))
    cost = cost_of(source, target)
    np.testing.assert_allclose(cost_of((source[0][order], source[1][order]), target), cost, rtol=1e-10)
    np.testing.assert_allclose(cost_of(target, source), cost.T, rtol=1e-10)
    columns = [cost_of(source, (target[0][target[1] == j], np.zeros((target[1] == j).sum(), int))) for j in range(2)]
    np.testing.assert_allclose(np.hstack(columns), cost, rtol=1e-10)


def test_float32_features_and_lists():
    source, target = draw_features([4, 7]), draw_features([6, 3], seed=1)
    expected = cost_of(source, target)
    cost = wasserstein_cost(
        source[0].astype(np.float32),
        source[1].tolist(),
        target[0].tolist(),
        target[1].tolist(),
        num_source_classes=2,
        num_target_classes=2,
    )
    # One side is rounded to 7 digits.
    np.testing.assert_allclose(cost, expected, rtol=1e-5)


def test_class_without_an_image():
    source, target = draw_features([4, 7]), draw_features([6, 3], seed=1)
    with pytest.raises(InputError, match="`source_labels` must name every class. Received: no image of class 2."):
        wasserstein_cost(*source, *target, num_source_classes=3, num_target_classes=2)
    with pytest.raises(InputError, match="`target_labels` must name every class. Received: no image of class 0."):
        wasserstein_cost(*source, target[0], target[1] + 1, num_source_classes=2, num_target_classes=3)


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf")])
def test_features_that_are_not_finite(value, shown):
    source, target = draw_features([4, 7]), draw_features([6, 3], seed=1)
    target[0][2, 1] = value
    with pytest.raises(InputError, match=f"`target_features` must be finite. Received: {shown}."):
        cost_of(source, target)
    with pytest.raises(InputError, match=f"`source_features` must be finite. Received: {shown}."):
        cost_of(target, source)


def test_features_of_two_lengths():
    with pytest.raises(InputError, match=r"shapes \[N, D\] and \[M, D\]. Received: \[11, 3\] and \[9, 4\]."):
        cost_of(draw_features([4, 7]), draw_features([6, 3], 4))
