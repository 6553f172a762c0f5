"""How a classifier of the source classes votes on the images of the target classes."""

import warnings

import numpy as np

from jtln_tf.config import InputError

# Added to a vote, as a share of 1 / n: what tells few votes from none.
_FLOOR = 0.1
# Inverse weight of the penalty, times the number of features: |x|^2 of standardized features grows with it. On held-out
# images of digits (pixels) and of groceries (network features), with 1 to 50 images a class to learn from, 100 gave
# probabilities of the least log-loss, or nearly.
_INVERSE_PENALTY = 100.0
_MOST_ITERATIONS = 500


def prediction_cost(probabilities, target_labels, *, num_target_classes):
    """Surprise of a source classifier at a source class being its answer to the images of a target class.

        cost(s, t) = -log(P(s | t) + 0.1 / n),   P(s | t) = mean over the images x of class t of p(s | x)

    This is also LEEP's class-wise score: -log P(t | s) = -log P(s | t) + log P(s) - log P(t) differs by a constant of
    the row and one of the column, which `double_centre` removes, as it removes the classifier's bias towards some
    classes. 1 - P(s | t) instead is about 1 for all but the first choices, and says nothing of the others. The floor
    keeps the few classes that get hardly a vote from taking up the range of the costs, which is at most log(1 + 10 n).

    Args:
        probabilities: Of the source classes for each target image, [M, n]; each row sums to 1.
        target_labels: Class indices [M]; every class has an image.
        num_target_classes: m.

    Returns:
        float64 [n, m], from about 0 to log(10 n).

    Raises:
        InputError: If a row of `probabilities` does not sum to 1 or has a negative entry, or a class has no image.

    Reference:
        Nguyen et al., 2020, LEEP: A New Measure to Evaluate Transferability of Learned Representations,
        arXiv:2002.12462; You et al., 2020, Co-Tuning for Transfer Learning, NeurIPS.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(target_labels)
    if probabilities.ndim != 2 or len(probabilities) != len(labels):
        raise InputError(
            f"`probabilities` must have shape [M, n] with M = {len(labels)}, the number of labels. "
            f"Received: {list(probabilities.shape)}."
        )
    sums = probabilities.sum(axis=1)
    # Written so that NaN fails too. Softmax in float32 sums to 1 within 1e-5.
    is_wrong = ~((np.abs(sums - 1.0) < 1e-3) & (probabilities >= 0).all(axis=1))
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        raise InputError(
            "`probabilities` must not be negative and must sum to 1 in each row. "
            f"Received: a sum of {sums[row]:.6g} and a least entry of {probabilities[row].min():.6g} in row {row}."
        )
    num_source_classes = probabilities.shape[1]
    votes = np.empty((num_source_classes, num_target_classes))
    for label in range(num_target_classes):
        rows = np.flatnonzero(labels == label)
        if not len(rows):
            raise InputError(f"`target_labels` must name every class. Received: no image of class {label}.")
        votes[:, label] = probabilities[rows].mean(axis=0)
    return -np.log(votes + _FLOOR / num_source_classes)


def fit_source_classifier(features, labels):
    """Fits multinomial logistic regression, with an L2 penalty, to the standardized features of the source classes.

    The penalty is chosen for probabilities that can be believed: it also makes a class of one image safe.

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

    labels = np.asarray(labels)
    features = _check_features(features, "D")
    if len(features) != len(labels) or not len(labels):
        raise InputError(f"`features` must be those of the {len(labels)} labels, N > 0. Received: {len(features)}.")
    counts = np.bincount(labels)
    if not counts.all():
        raise InputError(f"`labels` must name every class. Received: no image of class {int(np.argmin(counts))}.")
    scaler = StandardScaler().fit(features)
    num_features = features.shape[1]
    if len(counts) == 1:
        return lambda images: np.ones((len(_check_features(images, num_features)), 1))
    classifier = LogisticRegression(C=_INVERSE_PENALTY / num_features, max_iter=_MOST_ITERATIONS)
    with warnings.catch_warnings():
        # The votes of a classifier that is nearly at its optimum are as good.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # float32 takes half the time.
        classifier.fit(scaler.transform(features).astype(np.float32), labels)
    return lambda images: classifier.predict_proba(scaler.transform(_check_features(images, num_features)))


def _check_features(features, length):
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or length not in ("D", features.shape[1]):
        raise InputError(f"`features` must have shape [number of images, {length}]. Received: {list(features.shape)}.")
    if not np.isfinite(features).all():
        raise InputError(f"`features` must be finite. Received: {features[~np.isfinite(features)][0]}.")
    return features
