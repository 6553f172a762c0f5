"""What holds of every problem, the degenerate ones too: over 2,000 of them drawn by Hypothesis, 32 an example."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from jtln_tf.ot import sinkhorn, sinkhorn_from_logits
from tests import reference

BATCH = 32
# A new shape is compiled anew, so that there are few: more rows, more columns, as many, one row, one of each.
SHAPES = ((6, 5), (3, 5), (4, 4), (1, 5), (1, 1))
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
        self.a, self.b, self.cost, self.epsilon, self.of_logits = a, b, cost, epsilon, of_logits

    def __repr__(self):
        # Hypothesis draws the same examples each time: what they hold need not fill the screen.
        kind = "logits" if self.of_logits else "masses"
        return f"<{BATCH} problems of {kind}, epsilon={self.epsilon:.4g}, cost={self.cost.tolist()}>"

    def solve(self, **inputs):
        solve = sinkhorn_from_logits if self.of_logits else sinkhorn
        inputs = vars(self) | inputs
        # A tensor, so that no epsilon is traced anew.
        epsilon = tf.constant(inputs["epsilon"], self.cost.dtype)
        return solve(*(tf.convert_to_tensor(inputs[name]) for name in ("a", "b", "cost")), epsilon)

    def marginals(self):
        masses = (self.a, self.b)
        return [reference.softmax(x) for x in masses] if self.of_logits else [np.float64(x) for x in masses]

    def cost_range(self):
        return np.ptp(np.float64(self.cost))

    def unit_roundoff(self):
        return np.finfo(self.cost.dtype).eps


@st.composite
def batches(draw, shape, dtype):
    n, m = shape
    # Hypothesis draws what a batch shares; what its problems are follows from the seed, or most would be of one kind.
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cost = draw(st.sampled_from(COSTS))(rng, n, m) * 10.0 ** draw(st.integers(-3, 3))
    # With no range to measure by, epsilon follows the size of the costs.
    epsilon = draw(st.sampled_from(RATIOS)) * (np.ptp(cost) or max(np.abs(cost).max(), 1e-3))
    of_logits = draw(st.sampled_from([False, False, True]))
    if of_logits:
        noise = draw(st.sampled_from([0.0, 1.0, 5.0]))
        a, b = (rng.choice([-1e4, 0.0, 1e4], (BATCH, k)) + noise * rng.normal(size=(BATCH, k)) for k in shape)
    else:
        a, b = (np.array([rng.choice(MASSES)(rng, k) for _ in range(BATCH)], np.float64) for k in shape)
        a, b = (x / x.sum(axis=1, keepdims=True) for x in (a, b))
    return Batch(a.astype(dtype), b.astype(dtype), cost.astype(dtype), float(epsilon), of_logits)


def cheap(examples):
    return hypothesis.settings(
        max_examples=examples,
        # The first examples of a shape compile for seconds.
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def entropies(masses):
    return -np.sum(masses * np.log(np.maximum(masses, 1e-300)), axis=1)


def plan_and_rounding(batch, output):
    """The plans, and how far rounding may move each entry: that of the potentials and costs, over epsilon."""
    plan, f, g, cost = (np.float64(x) for x in (output.plan(), output.f, output.g, batch.cost))
    # The largest potential of a side and the lowest cost are taken out of the sums, and put back.
    levels = np.abs(f.max(axis=1)) + np.abs(g.max(axis=1)) + np.abs(cost).max()
    exponents = (np.abs(f)[:, :, None] + np.abs(g)[:, None, :] + levels[:, None, None]) / batch.epsilon
    # Half a unit for each of them, as much for their sums; ten units for the sums over the classes.
    return plan, plan * batch.unit_roundoff() * (exponents + 10)


def value_tolerance(batch, output):
    """The dual is concave: a value is off by the marginal error times the spread of the potentials, or by rounding.

    On the mass that matters, the spread of the potentials is that of the costs and epsilon times that of the log
    masses. Rounding is that of the terms `f a`, `g b`, each of which may have a constant that cancels.
    """
    a, b = batch.marginals()
    terms = np.abs(np.float64(output.f)) * a, np.abs(np.float64(output.g)) * b
    rounding = 10 * batch.unit_roundoff() * (terms[0].sum(axis=1) + terms[1].sum(axis=1) + np.abs(batch.cost).max())
    return 3 * THRESHOLD * (batch.cost_range() + batch.epsilon) + rounding


def check_solution(batch):
    output = batch.solve()
    assert output.converged.numpy().all(), f"{output.n_iters=} {output.marginal_error=}"
    assert np.all(output.marginal_error <= THRESHOLD)
    for tensor in (output.f, output.g, output.regularized_cost, output.transport_cost):
        assert np.isfinite(tensor).all()
    a, b = batch.marginals()
    plan, rounding = plan_and_rounding(batch, output)
    # Mass is conserved: exactly on the side with more classes, up to the marginal error on the other.
    sums = [(np.abs(plan.sum(2) - a), rounding.sum(2)), (np.abs(plan.sum(1) - b), rounding.sum(1))]
    (exact, exact_rounding), (other, other_rounding) = sums if a.shape[1] >= b.shape[1] else reversed(sums)
    # Masses sum to 1 up to their own rounding.
    own = 10 * batch.unit_roundoff()
    assert np.all(exact.sum(1) <= exact_rounding.sum(1) + own)
    assert np.all(other.sum(1) <= output.marginal_error + other_rounding.sum(1) + own)
    # Between the least that costs and entropy allow, and what the product of the marginals costs.
    value, tolerance = np.float64(output.regularized_cost), value_tolerance(batch, output)
    most_entropy = batch.epsilon * (entropies(a) + entropies(b))
    cost = np.float64(batch.cost)
    assert np.all(value >= cost.min() - most_entropy - tolerance)
    assert np.all(value <= np.einsum("bn,nm,bm->b", a, cost, b) - most_entropy + tolerance)
    # The transport cost is that of the plan.
    of_plan, slack = (plan * cost).sum((1, 2)), (rounding * np.abs(cost)).sum((1, 2)) + own * np.abs(cost).max()
    assert np.all(np.abs(output.transport_cost - of_plan) <= 2 * slack)


def check_gradients(batch):
    inputs = {"a": batch.a, "b": batch.b, "cost": batch.cost}
    inputs = {name: tf.constant(x) for name, x in inputs.items()} | {
        "epsilon": tf.constant(batch.epsilon, batch.cost.dtype)
    }
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        output = batch.solve(**inputs)
        transport_cost = output.transport_cost
    gradients = tape.gradient(output.regularized_cost, inputs)
    transport_gradients = tape.gradient(transport_cost, inputs)
    for gradient in (*gradients.values(), *transport_gradients.values()):
        assert np.isfinite(gradient).all()
    plan, rounding = plan_and_rounding(batch, output)
    # The sum of the plans, which have mass 1 each.
    assert np.all(gradients["cost"] >= 0)
    slack = THRESHOLD * BATCH + rounding.sum()
    assert abs(np.float64(gradients["cost"]).sum() - BATCH) <= slack
    # Minus the entropies: between 0 and the entropy of the product of the marginals.
    a, b = batch.marginals()
    most = (entropies(a) + entropies(b)).sum()
    slack *= 1 + np.abs(np.log(np.maximum(plan, 1e-300))).max()
    assert -most - slack <= gradients["epsilon"] <= slack


@pytest.mark.parametrize("shape", SHAPES[:3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@hypothesis.given(data=st.data())
@cheap(10)
def test_solutions_and_gradients(shape, dtype, data):
    batch = data.draw(batches(shape, dtype))
    check_solution(batch)
    check_gradients(batch)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@hypothesis.given(data=st.data())
@cheap(200)
def test_many_solutions_and_gradients(shape, dtype, data):
    batch = data.draw(batches(shape, dtype))
    check_solution(batch)
    check_gradients(batch)
