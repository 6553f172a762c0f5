import numpy as np
import pytest

from jtln_tf.config import InputError
from jtln_tf.costs.metrics import mkmmd
from jtln_tf.costs.metrics.mkmmd import mkmmd_cost
from jtln_tf.costs.numerics.kernel import median_squared_distance
from jtln_tf.costs.scaling import dual_centre, scale
from tests import reference
from tests.costs.conftest import draw_features


# The second has classes of one image on both sides.
@pytest.mark.parametrize("counts", [([4, 7, 5], [6, 3]), ([1, 4, 1], [2, 1])])
@pytest.mark.parametrize("unit", [0.3, 7.0])
def test_agrees_with_the_double_loops(counts, unit):
    source, target = draw_features(counts[0]), draw_features(counts[1], seed=1)
    cost = mkmmd_cost(source, target, scale=unit)
    assert cost.shape == (3, 2) and cost.dtype == np.float64
    np.testing.assert_allclose(cost, reference.mkmmd(*source, *target, 3, 2, unit), rtol=0, atol=1e-13)
    np.testing.assert_allclose(mkmmd_cost(target, source, scale=unit), cost.T, rtol=0, atol=1e-13)
    reverse = mkmmd_cost((source[0][::-1], source[1][::-1]), target, scale=unit)
    np.testing.assert_allclose(reverse, cost, rtol=0, atol=1e-13)


@pytest.mark.parametrize("values", [1, 25])
def test_blocks_change_nothing(monkeypatch, values):
    source, target = draw_features([4, 1, 7, 5]), draw_features([6, 3, 1], seed=1)
    expected = mkmmd_cost(source, target)
    monkeypatch.setattr(mkmmd, "_BLOCK_VALUES", values)
    np.testing.assert_allclose(mkmmd_cost(source, target), expected, rtol=0, atol=1e-13)


def test_constant_features_cost_nothing():
    labels = np.arange(6) % 2
    cost = mkmmd_cost((np.full((6, 3), 0.7), labels), (np.full((4, 3), 0.7), labels[:4]))
    np.testing.assert_allclose(cost, 0, atol=1e-13)
    np.testing.assert_array_equal(scale(dual_centre(cost)), 0)


@pytest.mark.parametrize(("factor", "offset", "atol"), [(2.0**-60, 0, 1e-12), (2.0**100, 0, 1e-12), (1, 1e6, 1e-8)])
def test_unit_and_origin_of_the_features_do_not_matter(factor, offset, atol):
    source, target = draw_features([4, 7]), draw_features([6, 3], seed=1)
    moved = [(factor * features + offset, labels) for features, labels in (source, target)]
    # A power of 2 changes no digit; float64 holds features of 1e6 to 1e-10.
    np.testing.assert_allclose(mkmmd_cost(*moved), mkmmd_cost(source, target), rtol=0, atol=atol)


def test_class_without_an_image():
    with pytest.raises(InputError, match="The labels must name every class. Received: no image of class 1"):
        mkmmd_cost((np.eye(3, 4), [0, 1, 2]), (np.eye(3, 4), [0, 0, 2]))


def test_median_is_near_that_of_all_pairs():
    features, _ = draw_features([40, 50], dimension=5)
    medians = [median_squared_distance(features, seed) for seed in range(5)]
    np.testing.assert_allclose(medians, reference.median_squared_distance(features), rtol=0.05)
    assert len(set(medians)) > 1 and medians[0] == median_squared_distance(features)
