"""Logistic regression on the normalized features of a backbone."""

import warnings

import keras
import numpy as np

from jtln_tf.data import Domain
from jtln_tf.features.start import to_unit
from jtln_tf.features.stream import stream_features
from jtln_tf.network import features_before_neck, find_neck

# Inverse strengths of the penalty; the first is for one image a class, where there is nothing to choose by.
_STRENGTHS = (10.0, 1.0, 100.0)
_MOST_FOLDS = 3
_MOST_ITERATIONS = 300


def fit_probe(network: keras.Model, domain: Domain) -> None:
    """Sets neck and target head of a network to a logistic regression on the features |x| = 1 of a target domain."""
    batches = list(stream_features(features_before_neck(network), domain.train))
    features, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    features = to_unit(features)
    weights, bias = fit_logistic_regression(features, labels)
    width = features.shape[1]
    find_neck(network).set_start(np.zeros(width), np.zeros(width), np.eye(width))
    network.get_layer("target_logits").set_linear(weights, bias)


def fit_logistic_regression(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns weights [m, D] and bias [m] of a logistic regression on features [N, D] with class indices [N].

    The strength of the penalty has the least loss in a cross-validation that keeps the shares of the classes.
    """
    from sklearn.linear_model import LogisticRegression

    # With one image a class, scikit-learn suspects that the labels are measurements.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
        return _fit(features, labels, LogisticRegression(C=_STRENGTHS[0], max_iter=_MOST_ITERATIONS))


def _fit(features, labels, model):
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    fewest = np.bincount(labels).min()
    if fewest > 1:
        folds = StratifiedKFold(min(_MOST_FOLDS, fewest), shuffle=True, random_state=0)
        search = GridSearchCV(model, {"C": _STRENGTHS}, scoring="neg_log_loss", cv=folds)
        model = search.fit(features, labels).best_estimator_
    else:
        model.fit(features, labels)
    if len(model.coef_) == 1:
        # Of two classes scikit-learn has the weights of the second alone.
        halves = np.array([[-0.5], [0.5]])
        return halves * model.coef_, halves[:, 0] * model.intercept_
    return model.coef_, model.intercept_
