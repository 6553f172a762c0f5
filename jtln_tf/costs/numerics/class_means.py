"""Distance between the mean features of classes."""

import numpy as np


def class_means_cost(source_means: np.ndarray, target_means: np.ndarray) -> np.ndarray:
    """Computes the squared distance [n, m] between mean features [n, D] and [m, D]: the MMD with a linear kernel.

    If the features are a source classifier's probabilities, a target class is near the source classes that its images
    are taken for. A class of which nothing is known, a row of NaN, is as far from every class as the known ones on
    average.
    """
    source, target = np.asarray(source_means, np.float64), np.asarray(target_means, np.float64)
    values = (source**2).sum(1)[:, None] + (target**2).sum(1)[None] - 2 * source @ target.T
    rows, columns = ~np.isnan(source).any(1), ~np.isnan(target).any(1)
    known = values[np.ix_(rows, columns)]
    if not known.size:
        return np.zeros(values.shape)
    # Centring removes constants of rows and columns: an unknown class then differs from no other.
    values[np.ix_(~rows, columns)] = known.mean(axis=0)
    values[np.ix_(rows, ~columns)] = known.mean(axis=1)[:, None]
    values[np.ix_(~rows, ~columns)] = known.mean()
    return values
