import numpy as np
import pytest
from scipy import optimize, stats

from jtln_tf.features.transferability import find_h_score, find_leep, find_logme

RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(3), [5, 8, 7])


def test_leep_is_the_mean_log_of_the_expected_prediction():
    probabilities = RNG.dirichlet(np.ones(4), len(LABELS))
    found = 0.0
    for image, label in enumerate(LABELS):
        expected = 0.0
        for z in range(4):
            joint = [sum(probabilities[i, z] for i in range(20) if LABELS[i] == y) / 20 for y in range(3)]
            expected += joint[label] / sum(joint) * probabilities[image, z]
        found += np.log(expected) / 20
    assert find_leep(probabilities, LABELS) == pytest.approx(found)
    assert find_leep(np.eye(4)[LABELS], LABELS) == pytest.approx(0.0)


@pytest.mark.parametrize("width", [4, 30])
def test_logme_is_the_largest_evidence_that_a_search_finds(width):
    features = RNG.normal(size=(20, width)) + np.eye(3, width)[LABELS]
    expected = []
    for label in range(3):
        goal = (label == LABELS).astype(float)

        def loss(logs, goal=goal):
            covariance = np.exp(-logs[1]) * np.eye(20) + np.exp(-logs[0]) * features @ features.T
            return -stats.multivariate_normal(np.zeros(20), covariance, allow_singular=True).logpdf(goal) / 20

        expected.append(-optimize.minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8}).fun)
    # MacKay's updates end near the maximum, and exactly there where it is not flat.
    assert find_logme(features, LABELS) == pytest.approx(np.mean(expected), abs=2e-3)


def test_the_h_score_is_that_of_two_shrunk_covariances():
    from sklearn.covariance import LedoitWolf

    features = RNG.normal(size=(20, 6)) + 2 * np.eye(3, 6)[LABELS]
    model = LedoitWolf().fit(features)
    means = np.stack([features[label == LABELS].mean(0) for label in range(3)])[LABELS] - features.mean(0)
    between = means.T @ means / 20
    expected = np.trace(np.linalg.inv(model.covariance_) @ ((1 - model.shrinkage_) * between))
    assert find_h_score(features, LABELS) == pytest.approx(expected)


def test_scores_tell_clear_classes_from_noise_and_stay_finite_with_one_image_a_class():
    noise, clear = RNG.normal(size=(20, 5)), 4 * np.eye(3, 5)[LABELS] + RNG.normal(size=(20, 5))
    for score in (find_logme, find_h_score):
        assert score(clear, LABELS) > score(noise, LABELS) + 0.1
        assert np.isfinite(score(RNG.normal(size=(3, 9)), np.arange(3)))
        assert np.isfinite(score(np.ones((3, 9)), np.arange(3)))
