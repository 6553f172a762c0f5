import numpy as np
import pytest

from jtln_tf.costs.scaling import double_centre, dual_centre, scale
from tests import reference


def draw_values(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape)


def test_double_centre():
    values = draw_values(5, 7)
    centred = double_centre(values)
    np.testing.assert_allclose(centred, reference.double_centre(values), atol=1e-15)


@pytest.mark.parametrize("shape", [(2, 2), (5, 7), (26, 10), (10, 62)])
def test_dual_centre_agrees_with_the_reference(shape):
    values = draw_values(*shape)
    reduced = dual_centre(values)
    assert reduced.shape == shape and reduced.dtype == np.float64
    # Stops at an error of 1 % of a class's share, where the potentials are near their limit.
    np.testing.assert_allclose(reduced, reference.dual_centre(values), rtol=0, atol=0.01)
    np.testing.assert_allclose(dual_centre(values.T), reduced.T, rtol=0, atol=1e-12)


# One row or column, and constant values: nothing tells the classes apart.
@pytest.mark.parametrize(
    "values", [draw_values(1, 4), draw_values(4, 1), [[7.0]], np.full((3, 4), 0.1), np.full((7, 3), 1e9 / 3)]
)
def test_dual_centre_of_nothing_to_choose_is_zero(values):
    reduced = dual_centre(values)
    np.testing.assert_allclose(reduced, 0, atol=1e-15)
    np.testing.assert_array_equal(scale(reduced), 0)


@pytest.mark.parametrize("by", ["max", "mean", "median", "std"])
def test_scale(by):
    values, statistic = draw_values(5, 7) * 30 - 100, getattr(np, by)
    scaled = scale(values, by)
    assert scaled.min() == 0 and statistic(scaled) == pytest.approx(1.0)
    np.testing.assert_allclose(scaled * statistic(values - values.min()) + values.min(), values, rtol=1e-12)


@pytest.mark.parametrize("values", [np.full((2, 3), 5.0), np.zeros((2, 3)), 3.0 + 1e-16 * np.arange(6).reshape(2, 3)])
def test_scale_of_equal_values_is_zero(values):
    np.testing.assert_array_equal(scale(values), np.zeros((2, 3)))
