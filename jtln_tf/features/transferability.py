"""Scores, before any training, that are meant to say how well features or a source classifier serve a target."""

import keras
import numpy as np

from jtln_tf.data.reading.split import Split
from jtln_tf.features.stream import stream_features
from jtln_tf.network import domain_view, features_model

_MOST_UPDATES, _TOLERANCE = 100, 1e-6
_TINY = 1e-12


def score_transferability(network: keras.Model, target: Split) -> dict[str, float]:
    """Returns LEEP, LogME and the H-score of a network, as it is, on labelled target images.

    Args:
        network: Network, or the part of it that is trained; the source head must know the source classes.
        target: Training images of the target, as the network reads them.

    Returns:
        `leep`, by the source head's predictions, `logme` and `h_score`, by the features before the heads.
    """
    parts = [*stream_features(domain_view(features_model(network), "target"), target)]
    features, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    source_head = keras.Model(network.input, network.output["source"])
    probabilities = np.concatenate([found for found, _ in stream_features(domain_view(source_head, "target"), target)])
    return {
        "leep": find_leep(probabilities, labels),
        "logme": find_logme(features, labels),
        "h_score": find_h_score(features, labels),
    }


def find_leep(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the log expected empirical prediction: the mean log probability of the labels, at most 0.

    A target label is predicted from the source classes that a source classifier sees in an image.

    Args:
        probabilities: Of the source classes for each target image [N, n].
        labels: Class indices [N].

    Reference:
        Nguyen, Hassner, Seeger, Archambeau, 2020, LEEP: a new measure to evaluate transferability of learned
        representations, arXiv:2002.12462, eq. 2.
    """
    probabilities = probabilities.astype(np.float64)
    joint = np.zeros((labels.max() + 1, probabilities.shape[1]))
    np.add.at(joint, labels, probabilities / len(labels))
    conditional = joint / np.maximum(joint.sum(axis=0), _TINY)
    predicted = (conditional[labels] * probabilities).sum(axis=1)
    return float(np.log(np.maximum(predicted, _TINY)).mean())


def find_h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """Returns the trace of inverse covariance times covariance of class means, from 0 to the number of classes less 1.

    With few images both are shrunk, by the share of Ledoit and Wolf.

    Args:
        features: Features of the target images [N, D].
        labels: Class indices [N].

    Reference:
        Ibrahim, Ponomareva, Mazumder, 2021, Newer is not always better: rethinking transferability metrics,
        arXiv:2110.06893, eq. 9; after Bao et al., 2019, An information-theoretic approach to transferability in task
        transfer learning.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    count, width = centred.shape
    shrinkage = ledoit_wolf_shrinkage(centred, assume_centered=True)
    counts = np.bincount(labels)
    sums = np.zeros((len(counts), width))
    np.add.at(sums, labels, centred)
    between = sums / np.sqrt(np.maximum(counts, 1))[:, None]
    covariance = centred.T @ centred / count
    shrunk = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / width * np.eye(width)
    return float((1 - shrinkage) * np.sum(between * np.linalg.lstsq(shrunk, between.T, rcond=None)[0].T) / count)


def find_logme(features: np.ndarray, labels: np.ndarray) -> float:
    """Returns the log of the largest evidence of a linear model of the labels, for each image, mean over classes.

    Each class is a target of 0 and 1, with Gaussian weights of precision alpha and Gaussian noise of precision beta,
    which are chosen by the evidence.

    Args:
        features: Features of the target images [N, D].
        labels: Class indices [N].

    Reference:
        You, Liu, Wang, Long, 2021, LogME: practical assessment of pre-trained models for transfer learning,
        arXiv:2102.11005, eq. 2 and algorithm 1.
    """
    left, scales, _ = np.linalg.svd(features.astype(np.float64), full_matrices=False)
    squares = scales**2
    evidences = []
    for label in np.unique(labels):
        goal = (labels == label).astype(np.float64)
        parts = (left.T @ goal) ** 2
        evidences.append(_maximize_evidence(squares, parts, goal @ goal - parts.sum(), *features.shape))
    return float(np.mean(evidences))


def _maximize_evidence(squares, parts, rest, count, width):
    """Returns the largest log evidence, by MacKay's updates; `parts` are the goal's squares along the left vectors."""
    alpha = beta = 1.0
    for _ in range(_MOST_UPDATES):
        ratio = alpha / beta
        effective = (squares / (squares + ratio)).sum()
        size = (squares * parts / (squares + ratio) ** 2).sum()
        error = (parts * ratio**2 / (squares + ratio) ** 2).sum() + rest
        alpha, beta = effective / max(size, _TINY), (count - effective) / max(error, _TINY)
        if abs(alpha / beta - ratio) <= _TOLERANCE * ratio:
            break
    ratio = alpha / beta
    size = (squares * parts / (squares + ratio) ** 2).sum()
    error = (parts * ratio**2 / (squares + ratio) ** 2).sum() + rest
    log_volume = np.log(alpha + beta * squares).sum() + (width - len(squares)) * np.log(alpha)
    evidence = width * np.log(alpha) + count * np.log(beta) - log_volume - beta * error - alpha * size
    return (evidence - count * np.log(2 * np.pi)) / (2 * count)
