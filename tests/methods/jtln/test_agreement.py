import itertools

import numpy as np
import pytest

from jtln_tf.costs.numerics.support import find_support
from jtln_tf.methods.jtln.agreement import find_agreement

RNG = np.random.default_rng(3)


def related_costs(n, m, spread=0.1):
    """Costs of classes of which the first min(n, m) are the same things."""
    return 1.0 - np.eye(n, m) + spread * RNG.normal(size=(n, m))


@pytest.mark.parametrize(("n", "m"), [(7, 7), (10, 6), (40, 41)])
def test_the_same_classes_agree_and_unrelated_ones_do_not(n, m):
    found = find_agreement(related_costs(n, m))
    assert found.strength == 1
    assert (found.shares.argmax(axis=0)[: min(n, m)] == np.arange(min(n, m))).all()
    assert found.source_weights[: min(n, m)].min() > 0.5 and found.source_weights.max() <= 1
    # A source class without a partner has little weight.
    assert found.source_weights[min(n, m) :].max(initial=0.0) < 0.3
    strengths = [find_agreement(RNG.normal(size=(n, m))).strength for _ in range(20)]
    assert np.mean(strengths) < 0.35


def test_classes_that_any_costs_match_are_not_trusted():
    for costs in ([[0.0, 1.0], [1.0, 0.0]], [[0.0, 9.0], [9.0, 1.0]]):
        assert find_agreement(np.array(costs)).strength == 0
    assert find_agreement(np.zeros((4, 5))).strength == 0


def test_constants_of_rows_and_columns_and_the_unit_do_not_matter():
    costs = related_costs(8, 6)
    other = 40 * costs + RNG.normal(size=(8, 1)) + RNG.normal(size=(1, 6))
    np.testing.assert_allclose(find_agreement(costs).shares, find_agreement(other).shares, atol=1e-12)


@pytest.mark.parametrize("num_targets", [5, 4, 3])
@pytest.mark.parametrize("push", [0.0, 0.5, 1.0, 1.5, 2.0, 8.0])
def test_support_counts_standard_deviations_over_all_orders_of_the_classes(push, num_targets):
    rng = np.random.default_rng(2)
    shares = rng.random(size=(7, num_targets))
    nearness = push * shares + 0.3 * rng.normal(size=shares.shape) + rng.normal(size=(7, 1))
    centred = nearness - nearness.mean(0) - nearness.mean(1, keepdims=True) + nearness.mean()
    # Three target classes have too few orders. The first order is the given one.
    axis = 1 if num_targets > 3 else 0
    orders = itertools.permutations(range(shares.shape[axis]))
    sums = [np.sum(shares * np.take(centred, order, axis)) for order in orders]
    deviations = (sums[0] - np.mean(sums)) / np.std(sums)
    assert find_support(shares, nearness) == pytest.approx(np.clip(deviations - 2, 0, 1), abs=1e-9)
    assert deviations > 2.5 or push < 8


@pytest.mark.parametrize(("n", "m", "support"), [(4, 4, 1), (7, 3, 1), (3, 3, 0), (10, 2, 1), (3, 2, 0)])
def test_so_few_classes_cannot_be_confirmed(n, m, support):
    assert find_support(np.eye(n, m), np.eye(n, m)) == pytest.approx(support, abs=1e-9)
