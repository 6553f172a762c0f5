"""Centring and scaling of cost values. Optimal transport does not see constants of rows and columns."""

import numpy as np


def double_centre(values):
    """Takes the mean of each row and of each column off the values [n, m].

    A class whose images spread widely (or that has few of them) is far from, or near to, every other class alike. That
    says nothing of which classes are related, and entropic transport with fixed marginals does not see it; without it
    the nearest source class of each target class can be read off the matrix.
    """
    return values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()


def scale_to_unit_range(values):
    """Shifts and scales the values to [0, 1]; all 0 where they are equal, to rounding, throughout."""
    lowest, highest = values.min(), values.max()
    if highest - lowest <= 1e-7 * max(1.0, abs(highest)):
        return np.zeros_like(values)
    return (values - lowest) / (highest - lowest)
