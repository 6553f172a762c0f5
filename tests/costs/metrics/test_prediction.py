import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from jtln_tf.config import InputError
from jtln_tf.costs.metrics.prediction import fit_source_classifier, prediction_cost
from tests.costs.conftest import draw_features


def draw_probabilities(count, num_classes, seed=0):
    return softmax(3 * np.random.default_rng(seed).normal(size=(count, num_classes)), axis=1)


@pytest.mark.parametrize("counts", [[4, 7, 5], [1, 1], [1, 30]])
def test_agrees_with_the_loops(counts):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    probabilities = draw_probabilities(len(labels), 6)
    cost = prediction_cost(probabilities, labels)
    assert cost.shape == (6, len(counts)) and cost.dtype == np.float64
    for source, target in np.ndindex(cost.shape):
        votes = [row[source] for row, label in zip(probabilities, labels, strict=True) if label == target]
        np.testing.assert_allclose(cost[source, target], -np.log(sum(votes) / len(votes) + 0.1 / 6), rtol=1e-12)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.5, 0.2, 0.2], "sum to 1 in each row. Received: a sum of 0.9 and a least entry of 0.2 in row 2."),
        ([1.5, -0.5, 0.0], "sum to 1 in each row. Received: a sum of 1 and a least entry of -0.5 in row 2."),
        ([np.nan, 0.5, 0.5], "sum to 1 in each row. Received: a sum of nan"),
    ],
)
def test_rows_that_are_no_probabilities(row, message):
    probabilities = draw_probabilities(4, 3)
    probabilities[2] = row
    with pytest.raises(InputError, match=message):
        prediction_cost(probabilities, np.zeros(4, int))


def probabilities_by_minimization(features, labels, images, penalty=0.01):
    """Multinomial regression with an L2 penalty `penalty D / 2 |W|^2`, minimized as it is written down."""
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    standardized, images = (features - mean) / deviation, (images - mean) / deviation
    num_classes, (count, dimension) = labels.max() + 1, features.shape

    def loss(parameters):
        weights = parameters.reshape(dimension + 1, num_classes)
        logs = log_softmax(standardized @ weights[1:] + weights[0], axis=1)
        return -logs[np.arange(count), labels].sum() + penalty * dimension / 2 * (weights[1:] ** 2).sum()

    found = minimize(loss, np.zeros((dimension + 1) * num_classes))
    weights = found.x.reshape(dimension + 1, num_classes)
    return softmax(images @ weights[1:] + weights[0], axis=1)


@pytest.mark.parametrize(("counts", "dimension"), [([9, 5, 7, 20], 3), ([2, 1, 6], 12), ([30, 30], 2)])
def test_classifier_agrees_with_the_minimum(counts, dimension):
    features, labels = draw_features(counts, dimension)
    images = np.random.default_rng(1).normal(size=(50, dimension))
    probabilities = fit_source_classifier(features, labels)(images)
    assert probabilities.shape == (50, len(counts)) and probabilities.dtype == np.float64
    # scikit-learn stops at a gradient of 1e-4.
    expected = probabilities_by_minimization(features, labels, images)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=0.02)


def test_classifier_of_one_class_and_of_constant_features():
    np.testing.assert_array_equal(fit_source_classifier([[1.0, 2.0]], [0])(np.zeros((4, 2))), np.ones((4, 1)))
    constant = fit_source_classifier(np.full((12, 2), 0.7), np.repeat([0, 1, 2], [5, 4, 3]))(np.full((2, 2), 0.7))
    np.testing.assert_allclose(constant, np.array([[5, 4, 3]] * 2) / 12, atol=1e-3)
