"""The kernel of the MK-MMD: a mixture of Gaussians whose widths follow the data."""

import numpy as np

# Bandwidths around the median heuristic, as in Long et al., 2015, arXiv:1502.02791. Each is half of the next.
BANDWIDTH_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
# Pairs of images that the median of squared distances is estimated from, and how many are read at once.
_MEDIAN_PAIRS = 20_000
_PAIRS_AT_ONCE = 1_000


def mix_gaussians(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the mean over r in `BANDWIDTH_FACTORS` of exp(-|x - y|^2 / r), [N, M], for x [N, D] and y [M, D]."""
    distances = np.einsum("ij,ij->i", x, x)[:, None] + np.einsum("ij,ij->i", y, y) - 2.0 * x @ y.T
    # The square of each Gaussian is the one of half its bandwidth: much cheaper than another exp.
    gaussian = np.exp(np.maximum(distances, 0.0) / -BANDWIDTH_FACTORS[-1])
    total = gaussian.copy()
    for _ in BANDWIDTH_FACTORS[1:]:
        gaussian *= gaussian
        total += gaussian
    return total / len(BANDWIDTH_FACTORS)


def median_squared_distance(features: np.ndarray, seed: int = 0) -> float:
    """Estimates the median heuristic: the median of |x - y|^2 over up to 20,000 drawn pairs of features [N, D].

    The mean replaces a median of 0, and 1 a mean of 0.

    Reference:
        Gretton et al., 2012, A Kernel Two-Sample Test, Journal of Machine Learning Research 13, section 8.
    """
    pairs = np.random.default_rng(seed).integers(0, len(features), (2, _MEDIAN_PAIRS))
    first, second = pairs[:, pairs[0] != pairs[1]]
    # One image makes no pair: its distance is 0.
    distances = np.zeros(max(len(first), 1))
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        distances[some] = (np.subtract(features[first[some]], features[second[some]], dtype=np.float64) ** 2).sum(
            axis=1
        )
    # Constant features have no scale; any will do, as all distances are 0.
    return float(np.median(distances) or distances.mean() or 1.0)
