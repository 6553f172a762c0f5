"""Distance between the mean features of classes."""

import numpy as np

from jtln_tf.costs.numerics.class_means import class_means_cost
from jtln_tf.costs.numerics.labelled import split_classes


def compute_class_means(evidence) -> tuple[np.ndarray, dict]:
    """Compares the directions of the mean features: a class of few images has a longer mean by chance alone."""
    return class_means_cost(*map(_mean_directions, evidence.features)), evidence.describe_images()


def _mean_directions(side):
    means = np.stack([images.mean(axis=0, dtype=np.float64) for images in split_classes(side)])
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
