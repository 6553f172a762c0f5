"""Features of made-up classes for the tests of costs."""

import numpy as np


def draw_features(counts, dimension=3, seed=0, spread=0.5):
    """Returns features [N, D] around a mean of each class, which has counts[label] images, and labels [N]."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    means, noise = rng.normal(size=(len(counts), dimension)), rng.normal(size=(len(labels), dimension))
    return means[labels] + spread * noise, labels
