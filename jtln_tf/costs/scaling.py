"""Centring and scaling of cost values; constants of rows and columns do not change transport with fixed marginals."""

import numpy as np

# The potentials are good enough to rank by at this relative error of a class's share, or after so many updates.
_TOLERANCE = 1e-2
_MOST_UPDATES = 5000


def double_centre(values: np.ndarray) -> np.ndarray:
    """Subtracts the mean of each row and of each column from the values [n, m].

    A class with widely spread images, or few of them, is about equally far from all classes. That does not say which
    classes are related, and it does not change entropic transport with fixed marginals. Without it, the nearest source
    class of each target class can be read off the matrix.
    """
    return values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()


def dual_centre(values: np.ndarray, epsilon: float = 0.03) -> np.ndarray:
    """Subtracts the dual potentials of the transport between the classes themselves from the values [n, m].

        R = C - f 1' - 1 g',    (f, g) = potentials of entropic OT between uniform weights of n and of m classes under C

    By complementary slackness R is lowest where the best plan of classes to classes has its mass: the cheapest target
    class of a source class is its partner if every target class must get its share. Two target classes do not both
    claim the source class that is nearest to both. `double_centre` is the first-order form of this. The entropic weight
    `epsilon` is a share of the range of the double-centred values.

    Returns:
        float64 [n, m] with mean 0.

    Reference:
        Peyre and Cuturi, 2019, Computational Optimal Transport, arXiv:1803.00567, sections 3.3 and 4.4.
    """
    values = np.asarray(values, np.float64)
    centred = scale(double_centre(values), unit=float(np.abs(values).max()))
    # If classes match one to one, the potentials are not unique and depend on which side is updated last. The mean of
    # both orders treats source and target alike.
    reduced = (_subtract_potentials(centred, epsilon) + _subtract_potentials(centred.T, epsilon).T) / 2
    return reduced - reduced.mean()


def _subtract_potentials(costs, epsilon):
    from scipy.special import logsumexp

    n, m = costs.shape
    scaled = costs / epsilon
    log_u, log_v = np.zeros((n, 1)), np.zeros((1, m))
    for _ in range(_MOST_UPDATES):
        log_u = -np.log(n) - logsumexp(log_v - scaled, axis=1, keepdims=True)
        log_v = -np.log(m) - logsumexp(log_u - scaled, axis=0, keepdims=True)
        row_sums = np.exp(log_u + log_v - scaled).sum(axis=1)
        if np.abs(row_sums * n - 1).max() < _TOLERANCE:
            break
    return costs - epsilon * (log_u + log_v)


def centre(values: np.ndarray, how: str) -> np.ndarray:
    """Centres the values [n, m] as `how` says: `double` (`double_centre`), `dual` (`dual_centre`) or `none`."""
    centrings = {"double": double_centre, "dual": dual_centre, "none": lambda values: values}
    return centrings[how](np.asarray(values, np.float64))


def scale(values: np.ndarray, by: str = "max", unit: float | None = None) -> np.ndarray:
    """Shifts the values to start at 0, and divides them by their `max`, `mean`, `median` or `std`.

    Values that differ only by rounding become 0: `unit` is the magnitude of the values before centring, which says how
    large rounding is; None is their own. If the median is 0, the mean replaces it.
    """
    statistics = {"max": np.max, "mean": np.mean, "median": lambda x: np.median(x) or np.mean(x), "std": np.std}
    lowest, highest = values.min(), values.max()
    unit = max(abs(lowest), abs(highest)) if unit is None else unit
    # Kernel values near 1 that cancel leave about 1e-16.
    if highest - lowest <= max(1e-7 * unit, 1e-12):
        return np.zeros_like(values)
    shifted = values - lowest
    return shifted / statistics[by](shifted)
