"""How the classes of the source are related to those of the target, seen by the source head."""

from collections.abc import Mapping

import keras
import numpy as np
import scipy.optimize
import scipy.special

from jtln_tf.data import Domain
from jtln_tf.data.reading.split import Split
from jtln_tf.features.probe import fit_logistic_regression
from jtln_tf.features.stream import stream_features
from jtln_tf.network import domain_view, outputs_model

# Bounds of the logarithm of the scale: calibration on few images that are all right would go on for ever.
_LEAST_LOG, _MOST_LOG = -4.0, 4.0


def calibrated_probabilities(network: keras.Model, domains: Mapping[str, Domain]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the source head's probabilities [N, n] for the target's training images, with their labels [N].

    Their temperature has the least loss on the source's validation images, or its training images if there are none.
    """
    outputs = outputs_model(network)
    logits_model = keras.Model(outputs.input, outputs.output["source"], name="source_logits_model")
    source = domains["source"]
    split = source.validation if len(source.validation) else source.train
    scale = find_scale(*_logits(domain_view(logits_model, "source"), split))
    logits, labels = _logits(logits_model, domains["target"].train)
    return scipy.special.softmax(scale * logits, axis=1), labels


def find_scale(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the factor of logits [N, n] with the least cross-entropy for class indices [N].

    Reference:
        Guo, Pleiss, Sun, Weinberger, 2017, On calibration of modern neural networks, arXiv:1706.04599: the inverse of
        the temperature.
    """
    rows = np.arange(len(labels))

    def loss(log_scale):
        return -scipy.special.log_softmax(np.exp(log_scale) * logits, axis=1)[rows, labels].mean()

    found = scipy.optimize.minimize_scalar(loss, bounds=(_LEAST_LOG, _MOST_LOG), method="bounded")
    return float(np.exp(found.x))


def relate_directly(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns p(y_s | y_t) [m, n]: the mean probabilities [N, n] of the images of each target class, labels [N]."""
    return np.stack([probabilities[labels == label].mean(axis=0) for label in range(labels.max() + 1)])


def relate_in_reverse(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns p(y_s | y_t) [m, n] by Bayes' rule, from p(y_t | y_s) and the mean probabilities [n] as p(y_s)."""
    weights, bias = fit_logistic_regression(probabilities, labels)
    return turn_around(scipy.special.softmax(weights.T + bias, axis=1), probabilities.mean(axis=0))


def turn_around(target_given_source: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Returns p(y_s | y_t) [m, n] of p(y_t | y_s) [n, m] and p(y_s) [n]."""
    joint = target_given_source.T * source
    return joint / joint.sum(axis=1, keepdims=True)


def _logits(model: keras.Model, split: Split):
    batches = list(stream_features(model, split))
    logits, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return logits.astype(np.float64), labels
