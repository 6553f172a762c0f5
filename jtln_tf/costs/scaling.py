"""Centring and scaling of cost values. Optimal transport does not see constants of rows and columns."""

import numpy as np

# Relative error of a class's share at which the potentials are good enough to rank by, and the updates after which they
# are taken as they are.
_TOLERANCE = 1e-2
_MOST_UPDATES = 5000


def double_centre(values):
    """Takes the mean of each row and of each column off the values [n, m].

    A class whose images spread widely (or that has few of them) is far from, or near to, every other class alike. That
    says nothing of which classes are related, and entropic transport with fixed marginals does not see it; without it
    the nearest source class of each target class can be read off the matrix.
    """
    return values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()


def dual_centre(values, epsilon=0.03):
    """Takes off the values [n, m] the dual potentials of the transport between the classes themselves.

        R = C - f 1' - 1 g',    (f, g) = potentials of entropic OT between uniform weights of n and of m classes under C

    By complementary slackness R is lowest where the best plan of classes to classes has its mass: the cheapest target
    class of a source class is the one it goes with when every target class must get its share: two target classes do
    not both claim the source class that lies nearest to both. `double_centre` is the first-order form of this.

    Args:
        values: Costs, finite.
        epsilon: Entropic weight, as a share of the range of the double-centred values.

    Returns:
        float64 [n, m], the mean 0.

    Reference:
        Peyre and Cuturi, 2019, Computational Optimal Transport, arXiv:1803.00567, sections 3.3 and 4.4.
    """
    values = np.asarray(values, np.float64)
    centred = scale(double_centre(values), unit=float(np.abs(values).max()))
    # Updates end with the columns. Where classes match one to one the potentials are not unique, and the two orders end
    # at different ones: their mean treats source and target alike.
    reduced = (_take_off_potentials(centred, epsilon) + _take_off_potentials(centred.T, epsilon).T) / 2
    return reduced - reduced.mean()


def _take_off_potentials(costs, epsilon):
    n, m = costs.shape
    scaled = costs / epsilon
    log_u, log_v = np.zeros((n, 1)), np.zeros((1, m))
    for _ in range(_MOST_UPDATES):
        log_u = -np.log(n) - _log_sum_exp(log_v - scaled, axis=1)
        log_v = -np.log(m) - _log_sum_exp(log_u - scaled, axis=0)
        row_sums = np.exp(log_u + log_v - scaled).sum(axis=1)
        if np.abs(row_sums * n - 1).max() < _TOLERANCE:
            break
    return costs - epsilon * (log_u + log_v)


def _log_sum_exp(values, axis):
    peak = values.max(axis=axis, keepdims=True)
    return peak + np.log(np.exp(values - peak).sum(axis=axis, keepdims=True))


def centre(values, how):
    """Takes off the values [n, m] what `how` names: `double`, `dual` or `none`."""
    centrings = {"double": double_centre, "dual": dual_centre, "none": lambda values: values}
    return centrings[how](np.asarray(values, np.float64))


def scale(values, by="max", unit=None):
    """Shifts the values so that the least is 0, and divides them by their `max`, `mean`, `median` or `std`.

    Values that are equal, to rounding, throughout become 0. The median of values that are mostly the least is 0: then
    the mean is taken.

    Args:
        values: [n, m].
        by: What of the shifted values becomes 1.
        unit: Magnitude of the values before they were centred, which tells how large rounding is; None is their own.
    """
    statistics = {"max": np.max, "mean": np.mean, "median": lambda x: np.median(x) or np.mean(x), "std": np.std}
    lowest, highest = values.min(), values.max()
    unit = max(abs(lowest), abs(highest)) if unit is None else unit
    # Kernel values near 1 that cancel leave 1e-16 or so.
    if highest - lowest <= max(1e-7 * unit, 1e-12):
        return np.zeros_like(values)
    shifted = values - lowest
    return shifted / statistics[by](shifted)
