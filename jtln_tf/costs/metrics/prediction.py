"""How a classifier of the source classes votes on the images of the target classes."""

import warnings
from collections.abc import Callable

import numpy as np

from jtln_tf.config import InputError
from jtln_tf.costs.numerics.labelled import check_features, find_rows

# Added to a vote, as a share of 1 / n, so that no vote at all has a finite cost.
_FLOOR = 0.1
# Inverse weight of the penalty, times the number of features, as |x|^2 of standardized features grows with it. With 1
# to 50 training images a class, 100 gave the least log-loss, or nearly, on held-out digits (pixels) and groceries
# (network features).
_INVERSE_PENALTY = 100.0
_MOST_ITERATIONS = 500


def prediction_cost(probabilities: np.ndarray, target_labels: np.ndarray) -> np.ndarray:
    """Computes how surprising each source class is as a source classifier's answer to images of a target class.

        cost(s, t) = -log(P(s | t) + 0.1 / n),   P(s | t) = mean over the images x of class t of p(s | x)

    This is also LEEP's class-wise score: -log P(t | s) = -log P(s | t) + log P(s) - log P(t) differs by a constant of
    the row and one of the column. `double_centre` removes both, and with them the classifier's bias towards some
    classes. 1 - P(s | t) instead is about 1 for all but the first choices, and says nothing about the others. The floor
    keeps the few classes that get hardly a vote from taking up the range of the costs, which is at most log(1 + 10 n).

    Args:
        probabilities: Of the source classes for each target image, [M, n]; each row sums to 1.
        target_labels: Class indices [M]; every class has an image.

    Returns:
        float64 [n, m], from about 0 to log(10 n).

    Raises:
        InputError: If a row of `probabilities` does not sum to 1 or has a negative entry, or a class has no image.

    Reference:
        Nguyen et al., 2020, LEEP: A New Measure to Evaluate Transferability of Learned Representations,
        arXiv:2002.12462; You et al., 2020, Co-Tuning for Transfer Learning, NeurIPS.
    """
    probabilities = np.asarray(check_features(probabilities, "probabilities", len(target_labels)), np.float64)
    sums = probabilities.sum(axis=1)
    # Softmax in float32 sums to 1 within 1e-5.
    is_wrong = (np.abs(sums - 1.0) > 1e-3) | (probabilities < 0).any(axis=1)
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        raise InputError(
            "`probabilities` must not be negative and must sum to 1 in each row. "
            f"Received: a sum of {sums[row]:.6g} and a least entry of {probabilities[row].min():.6g} in row {row}."
        )
    rows_by_class = find_rows(target_labels, "target_labels")
    votes = np.stack([probabilities[rows].mean(axis=0) for rows in rows_by_class], axis=1)
    return -np.log(votes + _FLOOR / len(votes))


def compute_prediction(evidence) -> tuple[np.ndarray, dict]:
    """Lets the source classifier vote on the target images; without one, fits one to the features."""
    described, classifier = evidence.describe_images(), evidence.source_classifier
    if classifier is not None:
        votes, labels = evidence.source_votes
        return prediction_cost(votes, labels), {**described, "features": classifier.name, "classifier": classifier.name}
    source, (features, labels) = evidence.features
    votes = fit_source_classifier(*source)(features)
    return prediction_cost(votes, labels), {**described, "classifier": "logistic regression"}


def fit_source_classifier(features: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Fits multinomial logistic regression, with an L2 penalty, to the standardized features of the source classes.

    The penalty is chosen for calibrated probabilities; it also makes a class of one image safe.

    Args:
        features: [N, D], finite.
        labels: Class indices [N]; every class from 0 to the largest has an image.

    Returns:
        Function of features [M, D] to the probabilities of the n source classes, float64 [M, n].

    Raises:
        InputError: If features are not finite or not [N, D], or a class has no image.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    features = np.asarray(check_features(features, "features", len(labels)), np.float64)
    num_classes, num_features = len(find_rows(labels, "labels")), features.shape[1]
    scaler = StandardScaler().fit(features)

    def standardize(features):
        return scaler.transform(check_features(features, "features", dimension=num_features).astype(np.float64))

    if num_classes == 1:
        return lambda images: np.ones((len(standardize(images)), 1))
    classifier = LogisticRegression(C=_INVERSE_PENALTY / num_features, max_iter=_MOST_ITERATIONS)
    with warnings.catch_warnings():
        # The votes of a classifier that is nearly at its optimum are as good.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # float32 takes half the time.
        classifier.fit(standardize(features).astype(np.float32), labels)
    return lambda images: classifier.predict_proba(standardize(images))
