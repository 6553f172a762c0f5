import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.datasets import load_digits

from jtln_tf.config import InputError
from jtln_tf.costs import double_centre
from jtln_tf.costs.metrics.prediction import fit_source_classifier, prediction_cost


def draw_probabilities(count, num_classes, seed=0):
    return softmax(3 * np.random.default_rng(seed).normal(size=(count, num_classes)), axis=1)


def draw_features(counts, dimension=3, seed=0, spread=0.5):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    means = rng.normal(size=(len(counts), dimension))
    return means[labels] + spread * rng.normal(size=(len(labels), dimension)), labels


def cost_by_loops(probabilities, labels, num_target_classes):
    num_source_classes = len(probabilities[0])
    cost = np.zeros((num_source_classes, num_target_classes))
    for source in range(num_source_classes):
        for target in range(num_target_classes):
            votes = [row[source] for row, label in zip(probabilities, labels, strict=True) if label == target]
            cost[source, target] = -np.log(sum(votes) / len(votes) + 0.1 / num_source_classes)
    return cost


@pytest.mark.parametrize("counts", [[4, 7, 5], [1, 1], [1, 30]])
def test_agrees_with_the_loops(counts):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    probabilities = draw_probabilities(len(labels), 6)
    cost = prediction_cost(probabilities, labels, num_target_classes=len(counts))
    assert cost.shape == (6, len(counts)) and cost.dtype == np.float64
    np.testing.assert_allclose(cost, cost_by_loops(probabilities, labels, len(counts)), rtol=1e-12)


def test_certain_classifier_costs_the_logarithm_of_the_share_of_votes():
    # Of the images of class 0, three are called 2 and one 0; those of class 1 are all called 1.
    probabilities = np.eye(4)[[2, 2, 0, 2, 1, 1]]
    cost = prediction_cost(probabilities, [0, 0, 0, 0, 1, 1], num_target_classes=2)
    floor = 0.025
    shares = np.array([[0.25, 0], [0, 1], [0.75, 0], [0, 0]])
    np.testing.assert_allclose(cost, -np.log(shares + floor), rtol=1e-12)


def test_undecided_classifier_tells_no_classes_apart():
    cost = prediction_cost(np.full((6, 5), 0.2), np.arange(6) % 3, num_target_classes=3)
    np.testing.assert_allclose(cost, cost[0, 0], rtol=1e-12)


def test_certainty_of_zero_and_one_stays_finite():
    probabilities = np.eye(300, dtype=np.float32)[np.arange(40) % 7]
    cost = prediction_cost(probabilities, np.arange(40) % 7, num_target_classes=7)
    assert np.isfinite(cost).all()
    np.testing.assert_allclose(np.ptp(cost), np.log(1 + 10 * 300), rtol=1e-6)


def test_agrees_with_leep_after_double_centring():
    probabilities, labels = draw_probabilities(400, 6), np.arange(400) % 4
    # As Nguyen et al. define it: the empirical joint distribution of the two labels, and from it P(t | s).
    joint = np.zeros((6, 4))
    for row, label in zip(probabilities, labels, strict=True):
        joint[:, label] += row / len(labels)
    leep = -np.log(joint / joint.sum(axis=1, keepdims=True))
    cost = prediction_cost(probabilities, labels, num_target_classes=4)
    # A vote is 1 / 6 or so; the floor, a tenth of that, shortens logarithms by as much.
    expected = double_centre(leep)
    np.testing.assert_allclose(double_centre(cost), expected, rtol=0, atol=0.15 * np.abs(expected).max())
    assert np.abs(expected).max() > 0.1


def test_class_without_an_image():
    with pytest.raises(InputError, match="`target_labels` must name every class. Received: no image of class 1."):
        prediction_cost(draw_probabilities(4, 3), [0, 0, 2, 2], num_target_classes=3)


@pytest.mark.parametrize("shape", [(4,), (5, 3), (4, 3, 1)])
def test_shape_of_probabilities(shape):
    with pytest.raises(InputError, match=r"shape \[M, n\] with M = 4, the number of labels. Received: \["):
        prediction_cost(np.full(shape, 1 / 3), np.zeros(4, int), num_target_classes=1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.5, 0.2, 0.2], "a sum of 0.9 and a least entry of 0.2 in row 2."),
        ([1.5, -0.5, 0.0], "a sum of 1 and a least entry of -0.5 in row 2."),
        ([np.nan, 0.5, 0.5], "a sum of nan and a least entry of nan in row 2."),
        ([5.0, -3.0, 0.1], "a sum of 2.1 and a least entry of -3 in row 2."),
    ],
)
def test_rows_that_are_no_probabilities(row, message):
    probabilities = draw_probabilities(4, 3)
    probabilities[2] = row
    with pytest.raises(InputError, match=f"must not be negative and must sum to 1 in each row. Received: {message}"):
        prediction_cost(probabilities, np.zeros(4, int), num_target_classes=1)


def probabilities_by_minimization(features, labels, images, penalty=0.01):
    """Multinomial regression with an L2 penalty `penalty D / 2 |W|^2`, minimized as it is written down."""
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    standardized, images = (features - mean) / deviation, (images - mean) / deviation
    num_classes, (count, dimension) = labels.max() + 1, features.shape

    def loss(parameters):
        weights = parameters.reshape(dimension + 1, num_classes)
        logs = log_softmax(standardized @ weights[1:] + weights[0], axis=1)
        loss = -logs[np.arange(count), labels].sum() + penalty * dimension / 2 * (weights[1:] ** 2).sum()
        error = np.exp(logs) - np.eye(num_classes)[labels]
        gradient = np.vstack([error.sum(axis=0), standardized.T @ error + penalty * dimension * weights[1:]])
        return loss, gradient.ravel()

    found = minimize(loss, np.zeros((dimension + 1) * num_classes), jac=True, tol=1e-12, options={"maxiter": 10_000})
    weights = found.x.reshape(dimension + 1, num_classes)
    return softmax(images @ weights[1:] + weights[0], axis=1)


@pytest.mark.parametrize(("counts", "dimension"), [([9, 5, 7, 20], 3), ([1, 1, 1], 4), ([2, 1, 6], 12)])
def test_classifier_agrees_with_the_minimum(counts, dimension):
    features, labels = draw_features(counts, dimension)
    images = np.random.default_rng(1).normal(size=(50, dimension))
    probabilities = fit_source_classifier(features, labels)(images)
    assert probabilities.shape == (50, len(counts)) and probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    # scikit-learn stops at a gradient of 1e-4.
    expected = probabilities_by_minimization(features, labels, images)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=0.02)


def test_classifier_of_two_classes():
    features, labels = draw_features([30, 30], 2, spread=0.1)
    probabilities = fit_source_classifier(features, labels)(features)
    assert probabilities.shape == (60, 2)
    assert (probabilities.argmax(axis=1) == labels).all() and probabilities.max(axis=1).mean() > 0.9


def test_classifier_of_one_class():
    predict = fit_source_classifier(*draw_features([3], 2))
    np.testing.assert_array_equal(predict(np.zeros((4, 2))), np.ones((4, 1)))


def test_classifier_of_one_image():
    np.testing.assert_array_equal(fit_source_classifier([[1.0, 2.0]], [0])([[3.0, 4.0]]), [[1.0]])


def test_probabilities_of_digits_can_be_believed():
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[:400], order[400:]
    probabilities = fit_source_classifier(images[train], labels[train])(images[test])
    accuracy = (probabilities.argmax(axis=1) == labels[test]).mean()
    assert accuracy > 0.9
    # Calibrated: says to be right about as often as it is.
    np.testing.assert_allclose(probabilities.max(axis=1).mean(), accuracy, rtol=0, atol=0.04)


def test_same_digits_under_other_labels_are_nearest():
    images, labels = load_digits(return_X_y=True)
    source, target = slice(0, 600), slice(600, 900)
    probabilities = fit_source_classifier(images[source], labels[source])(images[target])
    cost = prediction_cost(probabilities, (labels[target] + 3) % 10, num_target_classes=10)
    np.testing.assert_array_equal(double_centre(cost).argmin(axis=0), (np.arange(10) - 3) % 10)


def test_constant_features():
    features, labels = draw_features([5, 4, 3])
    wider = np.concatenate([np.full((12, 2), 0.7), features], axis=1)
    predict, predict_wider = fit_source_classifier(features, labels), fit_source_classifier(wider, labels)
    # Two features more make the penalty 5 / 3 as strong.
    assert (predict(features).argmax(axis=1) == predict_wider(wider).argmax(axis=1)).mean() > 0.8
    np.testing.assert_allclose(predict_wider(wider + [1, -1, 0, 0, 0]), predict_wider(wider), atol=1e-6)
    constant = fit_source_classifier(np.full((12, 2), 0.7), labels)(np.full((2, 2), 0.7))
    np.testing.assert_allclose(constant, np.array([[5, 4, 3]] * 2) / 12, atol=1e-3)


@pytest.mark.parametrize("unit", [1e-20, 2.0**90])
def test_classifier_does_not_see_the_unit_of_the_features(unit):
    features, labels = draw_features([5, 4, 3])
    expected = fit_source_classifier(features, labels)(features)
    probabilities = fit_source_classifier(unit * features, labels)(unit * features)
    np.testing.assert_allclose(probabilities, expected, atol=1e-3)


def test_classes_that_cannot_be_told_apart_share_the_votes():
    features, labels = np.repeat(np.eye(3), 4, axis=0), np.repeat([0, 1, 2], 4)
    labels[4:8] = [1, 2, 1, 2]
    probabilities = fit_source_classifier(features, labels)(np.eye(3))
    np.testing.assert_allclose(probabilities[1, 1:], 0.5, atol=0.1)
    assert probabilities[0, 0] > 0.8


def test_classifier_is_the_same_each_time():
    features, labels = draw_features([5, 4, 3], 20)
    one, other = (fit_source_classifier(features, labels)(features) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_no_warning_where_iterations_end_first(monkeypatch):
    monkeypatch.setattr("jtln_tf.costs.metrics.prediction._MOST_ITERATIONS", 2)
    features, labels = draw_features([5, 4, 3], 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probabilities = fit_source_classifier(features, labels)(features)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite(value):
    features, labels = draw_features([5, 4])
    predict = fit_source_classifier(features, labels)
    features[3, 1] = value
    with pytest.raises(InputError, match=f"`features` must be finite. Received: {value}."):
        fit_source_classifier(features, labels)
    with pytest.raises(InputError, match=f"`features` must be finite. Received: {value}."):
        predict(features)


@pytest.mark.parametrize("counts", [[5, 4], [5]])
def test_features_of_another_length(counts):
    predict = fit_source_classifier(*draw_features(counts))
    with pytest.raises(InputError, match=r"shape \[number of images, 3\]. Received: \[2, 4\]."):
        predict(np.zeros((2, 4)))
    with pytest.raises(InputError, match=r"shape \[number of images, D\]. Received: \[2\]."):
        fit_source_classifier(np.zeros(2), [0, 1])


def test_labels_that_do_not_fit():
    with pytest.raises(InputError, match="`labels` must name every class. Received: no image of class 1."):
        fit_source_classifier(np.zeros((3, 2)), [0, 2, 2])
    with pytest.raises(InputError, match="those of the 2 labels, N > 0. Received: 3."):
        fit_source_classifier(np.zeros((3, 2)), [0, 1])
    with pytest.raises(InputError, match="those of the 0 labels, N > 0. Received: 0."):
        fit_source_classifier(np.zeros((0, 2)), [])
