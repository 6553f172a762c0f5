"""What holds of every problem, the degenerate ones too: over thousands of them drawn by Hypothesis."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from jtln_tf.ot import sinkhorn, sinkhorn_from_logits
from tests import reference
from tests.ot.problems import gradients

RATIOS = (10.0, 1.0, 0.1, 0.05, 0.02, 1 / 59.9, 1 / 60.1, 0.01, 0.005, 1 / 599.0, 1 / 601.0, 0.001)
THRESHOLD = 1e-4  # the default of the solver

# Masses of one side of a problem, before they are divided by their sum.
MASSES = (
    lambda rng, size: np.ones(size),
    lambda rng, size: np.eye(size)[rng.integers(size)],
    # Zeros among the masses, though not all of them.
    lambda rng, size: rng.exponential(size=size) * (rng.random(size) < 0.5) + np.eye(size)[rng.integers(size)],
    # Small integers: many subsets of rows have the mass of some subset of columns.
    lambda rng, size: rng.integers(1, 4, size),
    lambda rng, size: rng.exponential(size=size),
    lambda rng, size: np.exp(10 * rng.normal(size=size)),
    lambda rng, size: np.exp(rng.choice([0.0, -30.0, -60.0], size) + 0.1 * rng.normal(size=size)),
)
# Costs: constant, with duplicate rows or columns, with few values, distances, negative, and with heavy tails.
COSTS = (
    lambda rng, n, m: np.full((n, m), rng.normal()),
    lambda rng, n, m: rng.random((n, m))[rng.integers(n, size=n)],
    lambda rng, n, m: rng.random((n, m))[:, rng.integers(m, size=m)],
    lambda rng, n, m: rng.integers(0, 3, (n, m)),
    lambda rng, n, m: np.abs(np.subtract.outer(np.arange(n) / n, np.arange(m) / m)),
    lambda rng, n, m: rng.random((n, m)),
    lambda rng, n, m: -rng.random((n, m)),
    lambda rng, n, m: rng.normal(size=(n, m)) ** 3,
)


class Batch:
    """Problems as they are passed to the solver, and their marginals in float64."""

    def __init__(self, a, b, cost, epsilon, of_logits):
        self.inputs, self.cost, self.epsilon = (a, b, cost, epsilon), np.float64(cost), epsilon
        self.solve = sinkhorn_from_logits if of_logits else sinkhorn
        self.marginals = [reference.softmax(x) if of_logits else np.float64(x) for x in (a, b)]
        self.unit_roundoff = np.finfo(cost.dtype).eps

    def __repr__(self):
        # Hypothesis draws the same examples each time: what they hold need not fill the screen.
        return f"<{self.solve.__name__}, epsilon={self.epsilon:.4g}, cost={self.cost.tolist()}>"


@st.composite
def batches(draw, size, n, m, dtype):
    # Hypothesis draws what a batch shares; what its problems are follows from the seed, or most would be of one kind.
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cost = draw(st.sampled_from(COSTS))(rng, n, m) * 10.0 ** draw(st.integers(-3, 3))
    # With no range to measure by, epsilon follows the size of the costs.
    epsilon = draw(st.sampled_from(RATIOS)) * (np.ptp(cost) or max(np.abs(cost).max(), 1e-3))
    of_logits = draw(st.sampled_from([False, False, True]))
    if of_logits:
        noise = draw(st.sampled_from([0.0, 1.0, 5.0]))
        a, b = (rng.choice([-1e4, 0.0, 1e4], (size, k)) + noise * rng.normal(size=(size, k)) for k in (n, m))
    else:
        a, b = (np.array([rng.choice(MASSES)(rng, k) for _ in range(size)], np.float64) for k in (n, m))
        a, b = (x / x.sum(axis=1, keepdims=True) for x in (a, b))
    return Batch(a.astype(dtype), b.astype(dtype), cost.astype(dtype), float(epsilon), of_logits)


def plan_and_rounding(batch, output):
    """The plans, and how far rounding may move each entry: that of the potentials and costs, over epsilon."""
    plan, f, g = (np.float64(x) for x in (output.plan(), output.f, output.g))
    # The largest potential of a side and the lowest cost are taken out of the sums, and put back.
    levels = np.abs(f.max(axis=1)) + np.abs(g.max(axis=1)) + np.abs(batch.cost).max()
    exponents = (np.abs(f)[:, :, None] + np.abs(g)[:, None, :] + levels[:, None, None]) / batch.epsilon
    # Half a unit for each of them, as much for their sums; ten units for the sums over the classes.
    return plan, plan * batch.unit_roundoff * (exponents + 10)


def check_solution(batch, output, plan, rounding):
    assert output.converged.numpy().all(), f"{output.n_iters=} {output.marginal_error=}"
    assert np.all(output.marginal_error <= THRESHOLD)
    a, b = batch.marginals
    # Mass is conserved: exactly on the side with more classes, up to the marginal error on the other.
    sums = [(np.abs(plan.sum(2) - a), rounding.sum(2)), (np.abs(plan.sum(1) - b), rounding.sum(1))]
    (exact, exact_rounding), (other, other_rounding) = sums if a.shape[1] >= b.shape[1] else reversed(sums)
    # Masses sum to 1 up to their own rounding.
    own = 10 * batch.unit_roundoff
    assert np.all(exact.sum(1) <= exact_rounding.sum(1) + own)
    assert np.all(other.sum(1) <= output.marginal_error + other_rounding.sum(1) + own)
    # The transport cost is that of the plan.
    of_plan, size = (plan * batch.cost).sum((1, 2)), np.abs(batch.cost)
    slack = (rounding * size).sum((1, 2)) + own * size.max()
    assert np.all(np.abs(output.transport_cost - of_plan) <= 2 * slack)


def check_many(examples, *shape_and_type):
    # The first examples of a shape compile for seconds.
    options = {"deadline": None, "suppress_health_check": list(hypothesis.HealthCheck)}

    @hypothesis.settings(max_examples=examples, derandomize=True, database=None, **options)
    @hypothesis.given(batches(*shape_and_type))
    def check(batch):
        output, *of_costs = gradients(("regularized_cost", "transport_cost"), *batch.inputs, solve=batch.solve)
        for tensor in (output.f, output.g, output.regularized_cost, output.transport_cost, *sum(of_costs, [])):
            assert np.isfinite(tensor).all()
        plan, rounding = plan_and_rounding(batch, output)
        check_solution(batch, output, plan, rounding)
        # The gradient in the costs is the sum of the plans, which have mass 1 each.
        in_costs = np.float64(of_costs[0][2])
        assert np.all(in_costs >= 0) and abs(in_costs.sum() - len(plan)) <= THRESHOLD * len(plan) + rounding.sum()

    check()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_solutions_and_gradients(dtype):
    check_many(40, 4, 6, 5, dtype)


# More columns than rows, one of each.
@pytest.mark.slow
@pytest.mark.parametrize(("n", "m", "dtype"), [(3, 5, "float32"), (1, 1, "float64")])
def test_many_solutions_and_gradients(n, m, dtype):
    check_many(40, 32, n, m, dtype)
