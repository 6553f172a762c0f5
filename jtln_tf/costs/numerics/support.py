"""Whether images confirm which classes belong together."""

import numpy as np

# Fewer classes than these can be put in so few orders that the right one is never three deviations above their mean.
_LEAST_CLASSES = 4


def find_support(shares: np.ndarray, nearness: np.ndarray) -> float:
    """Returns how far images confirm that classes belong together, in [0, 1].

    The nearness of the pairs, weighted by their shares, is compared with what it is if the target classes change places
    at random, whose mean and spread are known (Hoeffding, 1951). Up to two standard deviations above the mean, which
    one matrix of twenty that has nothing to do with the images reaches by chance, it is 0; from three it is 1. If there
    are fewer than four target classes, the source classes change places instead.

    Args:
        shares: How far source class i and target class j choose each other by the costs, [n, m].
        nearness: How near their images are, [n, m].

    Reference:
        Hoeffding, 1951, A combinatorial central limit theorem, Annals of Mathematical Statistics 22.
    """
    nearness = centre_both(nearness)
    swapped = shares.T @ nearness if shares.shape[1] >= _LEAST_CLASSES else shares @ nearness.T
    count = len(swapped)
    excess = np.trace(swapped) - swapped.sum() / count
    spread = np.sqrt(np.sum(centre_both(swapped) ** 2) / max(count - 1, 1))
    return float(np.clip(excess / max(spread, 1e-12) - 2.0, 0.0, 1.0))


def centre_both(values: np.ndarray) -> np.ndarray:
    """Returns values [n, m] without the means of rows and columns."""
    return values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
