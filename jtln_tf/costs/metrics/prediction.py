"""How a classifier of the source classes votes on the images of the target classes."""

import warnings
from collections.abc import Callable

import numpy as np

from jtln_tf.config import InputError
from jtln_tf.costs.numerics.labelled import split_classes

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

    Takes probabilities of the source classes [M, n] and class indices [M] of the target images, with an image of every
    class. Returns float64 [n, m], from about 0 to log(10 n). Raises `InputError` if a row does not sum to 1 or has a
    negative entry.

    Reference:
        Nguyen et al., 2020, LEEP: A New Measure to Evaluate Transferability of Learned Representations,
        arXiv:2002.12462; You et al., 2020, Co-Tuning for Transfer Learning, NeurIPS.
    """
    probabilities = np.asarray(probabilities, np.float64)
    sums, least = probabilities.sum(axis=1), probabilities.min(axis=1)
    # Softmax in float32 sums to 1 within 1e-5.
    is_wrong = ~((np.abs(sums - 1.0) <= 1e-3) & (least >= 0))
    if is_wrong.any():
        row = is_wrong.argmax()
        raise InputError(
            "`probabilities` must not be negative and must sum to 1 in each row. "
            f"Received: a sum of {sums[row]:.6g} and a least entry of {least[row]:.6g} in row {row}."
        )
    votes = [images.mean(axis=0) for images in split_classes((probabilities, target_labels))]
    return -np.log(np.stack(votes, axis=1) + _FLOOR / probabilities.shape[1])


def compute_prediction(evidence) -> tuple[np.ndarray, dict]:
    """Lets the source classifier vote on the target images; without one, fits one to the features."""
    described, classifier = evidence.describe_images(), evidence.source_classifier
    if classifier is not None:
        described |= {"features": classifier.name, "classifier": classifier.name}
        return prediction_cost(*evidence.extract("target", classifier)), described
    source, (features, labels) = evidence.features
    votes = fit_source_classifier(*source)(features)
    return prediction_cost(votes, labels), {**described, "classifier": "logistic regression"}


def fit_source_classifier(features: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Fits multinomial logistic regression, with an L2 penalty, to the standardized features [N, D] of classes [N].

    The penalty is chosen for calibrated probabilities; it also makes a class of one image safe.

    Returns:
        Function of features [M, D] to the probabilities of the source classes, [M, n].
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not np.any(labels):
        # The only class; the library wants two.
        return lambda images: np.ones((len(images), 1))
    penalty = {"C": _INVERSE_PENALTY / np.shape(features)[1]}
    classifier = make_pipeline(StandardScaler(), LogisticRegression(**penalty, max_iter=_MOST_ITERATIONS))
    with warnings.catch_warnings():
        # The votes of a classifier that is nearly at its optimum are as good.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(features, labels)
    return classifier.predict_proba
