"""Distance between the mean features of classes."""

import numpy as np


def class_means_cost(source_means: np.ndarray, target_means: np.ndarray) -> np.ndarray:
    """Computes the squared distance between the mean features of classes: the MMD with a linear kernel.

    If the features are a source classifier's probabilities, a target class is near the source classes that its images
    are taken for.

    Args:
        source_means: [n, D]; a row of NaN if nothing is known of a class.
        target_means: [m, D], likewise.

    Returns:
        float64 [n, m]. A class of which nothing is known is as far from every class as the known ones on average.
    """
    source, target = np.asarray(source_means, np.float64), np.asarray(target_means, np.float64)
    values = (source**2).sum(1)[:, None] + (target**2).sum(1)[None] - 2 * source @ target.T
    known_rows, known_columns = ~np.isnan(source).any(1), ~np.isnan(target).any(1)
    if not known_rows.any() or not known_columns.any():
        return np.zeros(values.shape)
    known = values[np.ix_(known_rows, known_columns)]
    filled = np.full(values.shape, known.mean())
    filled[np.ix_(known_rows, known_columns)] = known
    # Centring removes constants of rows and columns: an unknown class then differs from no other.
    filled[np.ix_(~known_rows, known_columns)] = known.mean(axis=0)
    filled[np.ix_(known_rows, ~known_columns)] = known.mean(axis=1)[:, None]
    return filled
