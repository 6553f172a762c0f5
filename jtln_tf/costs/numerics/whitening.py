"""Within-class whitening: features in which all directions vary alike inside a class."""

from collections.abc import Callable

import numpy as np

from jtln_tf.costs.numerics.labelled import Labelled, split_classes

# With more features, estimating and factorizing the covariance costs more than the distances are worth.
_WIDEST = 4096


def fit_whitening(sides: list[Labelled]) -> np.ndarray | None:
    """Finds the linear map after which the features of a class have, on average, the identity as covariance.

    Directions in which images of one class differ much (light, pose, background) say little about how classes are
    related, but distances between raw features are mostly made of them. The covariance is pooled over all classes of
    both domains, and shrunk towards a multiple of the identity as far as its own uncertainty asks for (Ledoit, Wolf).

    Returns:
        The map as an array [D, D], to be multiplied from the right: `features @ map`. The identity if there is
        nothing to estimate it from (one image a class, constant features), and None if D exceeds 4,096.

    Reference:
        Hatch, Kajarekar, Stolcke, 2006, Within-class covariance normalization, Interspeech. Ledoit and Wolf, 2004, A
        well-conditioned estimator for large-dimensional covariance matrices, Journal of Multivariate Analysis 88.
    """
    from sklearn.covariance import ledoit_wolf

    dimension = sides[0][0].shape[1]
    if dimension > _WIDEST:
        return None
    # Of k images only k - 1 differences to their mean are independent.
    residuals = [
        (images - images.mean(axis=0, dtype=np.float64)) * np.sqrt(len(images) / (len(images) - 1))
        for side in sides
        for images in split_classes(side)
        if len(images) > 1
    ]
    largest = max((np.abs(of_class).max() for of_class in residuals), default=0.0)
    # Equal float32 features leave residuals of rounding size.
    if largest <= 1e-6 * max(np.abs(features).max() for features, _ in sides):
        return np.eye(dimension)
    covariance, _ = ledoit_wolf(np.concatenate(residuals) / largest, assume_centered=True)
    variances, directions = np.linalg.eigh(covariance)
    # Shrinkage leaves zeros only if every residual is the same multiple of one direction.
    variances = np.maximum(variances, 1e-6 * variances[-1])
    return directions / (largest * np.sqrt(variances))


def choose_whitening(sides: list[Labelled], is_wanted: bool) -> tuple[Callable[[np.ndarray], np.ndarray], bool]:
    """Returns a function that whitens features, and whether it does: it leaves them alone if that is not wanted."""
    matrix = fit_whitening(sides) if is_wanted else None
    return (lambda features: features if matrix is None else features @ matrix), matrix is not None


def whiten_sides(sides: list[Labelled], is_wanted: bool) -> tuple[list[Labelled], bool]:
    """Returns the features and labels of each side, whitened if that is wanted, and whether they are."""
    whiten, is_whitened = choose_whitening(sides, is_wanted)
    return [(whiten(features), labels) for features, labels in sides], is_whitened
