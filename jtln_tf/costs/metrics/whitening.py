"""Within-class whitening: features in which all directions vary alike inside a class."""

import numpy as np

# Beyond this the covariance itself, and its factorization, cost more than the distances are worth.
_WIDEST = 4096


def fit_whitening(domains):
    """Finds the linear map after which the features of a class have, on the average, the identity as covariance.

    Directions in which images of one class differ much (light, pose, background) say little of how classes are related;
    distances between raw features are mostly made of them. The covariance is pooled over all classes of all domains,
    and shrunk towards a multiple of the identity as far as its own uncertainty asks for (Ledoit and Wolf).

    Args:
        domains: List of `(features [N, D], labels [N])`.

    Returns:
        The map as an array [D, D], to be multiplied from the right: `features @ map`. The identity where there is
        nothing to estimate it from (one image a class, constant features), and None where D exceeds 4,096.

    Reference:
        Hatch, Kajarekar, Stolcke, 2006, Within-class covariance normalization, Interspeech. Ledoit and Wolf, 2004, A
        well-conditioned estimator for large-dimensional covariance matrices, Journal of Multivariate Analysis 88.
    """
    from sklearn.covariance import ledoit_wolf

    dimension = domains[0][0].shape[1]
    if dimension > _WIDEST:
        return None
    residuals = np.concatenate([_residuals(np.asarray(features, np.float64), labels) for features, labels in domains])
    largest = np.abs(residuals).max(initial=0.0)
    # What is left of equal float32 features is rounding.
    if largest <= 1e-6 * max(np.abs(features).max(initial=0.0) for features, _ in domains):
        return np.eye(dimension)
    covariance, _ = ledoit_wolf(residuals / largest, assume_centered=True)
    variances, directions = np.linalg.eigh(covariance)
    # Shrinkage leaves zeros only where every residual is the same multiple of one direction.
    variances = np.maximum(variances, 1e-6 * variances[-1])
    return directions / (largest * np.sqrt(variances))


def _residuals(features, labels):
    """Differences to the class means [R, D]; a class of one image tells nothing and is left out."""
    classes, positions, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(classes), features.shape[1]))
    np.add.at(sums, positions, features)
    # Of k images k - 1 differences are independent.
    residuals = (features - (sums / counts[:, None])[positions]) * np.sqrt(counts / np.maximum(counts - 1, 1))[
        positions, None
    ]
    return residuals[counts[positions] > 1]
