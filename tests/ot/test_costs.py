"""Gradients of the two costs against central differences; the solution with penalties, which have gradients too."""

import numpy as np
import pytest

from jtln_tf.ot import sinkhorn, sinkhorn_from_logits
from tests import reference
from tests.ot.problems import FORMS, draw_problems, gradients

# float64 lets the potentials be exact to this over a mass, and a difference quotient needs it.
TIGHT = {"threshold": 1e-11, "max_iterations": 20_000}
# Penalties in units of the range of the costs; without them the marginals are fixed.
BOTH_FREE, COLUMNS_FREE, ROWS_FREE = {"tau_a": 0.7, "tau_b": 0.4}, {"tau_b": 0.5}, {"tau_a": 0.5}
COSTS = ("regularized_cost", "transport_cost")
WEIGHTS = np.array([1.0, -2.0, 0.0, 3.5])


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def draw_masses(transposed=False):
    """Marginals of 4 problems, whose least mass is 0.03, and costs."""
    a_logits, b_logits, cost = (np.float64(x) for x in draw_problems(np.ones(4)))
    a, b = reference.softmax(a_logits), reference.softmax(b_logits)
    return (b, a, cost.T) if transposed else (a, b, cost)


def central_differences(name, inputs, moves, **options):
    """Differences of each problem's cost for moves of the inputs (a, b, cost, epsilon) by plus and minus `moves`."""
    values = []
    for sign in (1, -1):
        moved = [x + sign * move for x, move in zip(inputs, moves, strict=True)]
        values.append(getattr(sinkhorn(*moved, **options), name).numpy())
    return (values[0] - values[1]) / 2


@pytest.mark.parametrize("epsilon", FORMS)
@pytest.mark.parametrize(("penalties", "transposed"), [({}, False), (BOTH_FREE, False), slow(ROWS_FREE, True)])
def test_gradients_agree_with_central_differences(penalties, transposed, epsilon):
    options = penalties | TIGHT
    inputs = *draw_masses(transposed), epsilon
    rng = np.random.default_rng(1)
    # The costs are smooth on the scale of epsilon, so that the error is the square of this (1e-6).
    step = 1e-3 * min(1.0, 10 * epsilon)
    directions = [masses * rng.normal(size=masses.shape) for masses in inputs[:2]]
    for side, tau in enumerate(("tau_a", "tau_b")):
        if tau not in penalties:
            # Within the simplex: the masses still sum to 1.
            directions[side] -= inputs[side] * directions[side].sum(axis=1, keepdims=True)
    directions += [epsilon * rng.normal(size=inputs[2].shape), epsilon]
    _, *of_costs = gradients(COSTS, *inputs, WEIGHTS, **options)
    for name, found in zip(COSTS, of_costs, strict=True):
        for which, (gradient, direction) in enumerate(zip(found, directions, strict=True)):
            moves = [0.0, 0.0, 0.0, 0.0]
            moves[which] = step * direction
            differences = WEIGHTS * central_differences(name, inputs, moves, **options) / step
            # Costs and epsilon are shared: their gradient is the sum over the problems.
            along = (gradient * direction).sum(axis=1 if which < 2 else None)
            expected = differences if which < 2 else differences.sum()
            # The square of the step; the threshold 1e-11 over a step of 1e-5 times the conditioning.
            scale = 1.0 if which < 2 else epsilon
            np.testing.assert_allclose(along / scale, expected / scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("epsilon", FORMS)
def test_float32_agrees_with_float64(epsilon):
    inputs = [np.float32(x) for x in draw_masses()]
    _, *found = gradients(COSTS, *inputs, epsilon, WEIGHTS, threshold=1e-6)
    # Masses that were rounded sum to 1 only up to 1e-7, and so the threshold cannot be tighter.
    exact = [np.float64(x) for x in inputs]
    _, *expected = gradients(COSTS, *exact, epsilon, WEIGHTS, threshold=1e-6, max_iterations=20_000)
    for side, (one, other) in enumerate(zip(sum(found, []), sum(expected, []), strict=True)):
        if side % 4 < 2:
            # Only the part along the simplex is defined.
            one, other = (x - x.mean(axis=1, keepdims=True) for x in (one, other))
        # The threshold 1e-6 over the least mass times the conditioning, which grows as epsilon falls.
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 + 3e-3 * np.abs(other).max())


# One-hot on both sides, on one side, a single zero, and two thirds of zeros; and the same of logits.
ZERO_MASSES = (
    [np.eye(6)[2], np.eye(6)[0], [0.0, 0.1, 0.2, 0.3, 0.15, 0.25], [0.5, 0.0, 0.0, 0.5, 0.0, 0.0]],
    [np.eye(5)[4], [0.1, 0.2, 0.3, 0.15, 0.25], np.eye(5)[0], [0.0, 0.0, 0.5, 0.0, 0.5]],
)
UNDERFLOWING_LOGITS = (
    [[1e4, -1e4, 0, 1, 2, -1e4], [-1e4, 0, 0, 0, 1, 0], [1e4, 1e4, 1e4, -1e4, 0, 0], [0, 0, 0, 0, 0, 1e4]],
    [[0, 1, 2, 3, 1e4], [1e4, -1e4, 1e4, -1e4, 1e4], [-1e4, -1e4, -1e4, -1e4, 0], [1, -1e4, 2, -1e4, 3]],
)


@pytest.mark.parametrize("epsilon", FORMS)
@pytest.mark.parametrize(
    ("penalties", "dtype"), [({}, "float32"), slow(BOTH_FREE, "float32"), slow(COLUMNS_FREE, "float64")]
)
@pytest.mark.parametrize(("solve", "sides"), [(sinkhorn, ZERO_MASSES), (sinkhorn_from_logits, UNDERFLOWING_LOGITS)])
def test_masses_of_zero_have_finite_gradients(solve, sides, penalties, dtype, epsilon):
    # Rows that are duplicates, too.
    cost = draw_problems()[2].astype(dtype)
    cost[1] = cost[0]
    a, b = (np.array(side, dtype) for side in sides)
    output, *found = gradients(COSTS, a, b, cost, epsilon, solve=solve, **penalties)
    assert output.converged.numpy().all()
    for tensor in (output.f, output.g, output.regularized_cost, output.transport_cost, *sum(found, [])):
        assert np.isfinite(tensor).all()


@pytest.mark.slow
def test_transport_between_two_parts_that_hardly_exchange_mass():
    # Each column takes just the mass of four rows, and no plan entry joins the two parts but those that underflow.
    costs = [[0.55, 0.5, 0.6, 0.8, 0.03, 0.04, 0.09, 0.29], [0.1, 0.29, 0.32, 0.91, 0.4, 0.8, 0.84, 0.82]]
    cost = np.array(costs).T
    a, b = np.full((1, 8), 1 / 8), np.full((1, 2), 1 / 2)
    _, (a_gradient, b_gradient, cost_gradient, epsilon_gradient) = gradients(["transport_cost"], a, b, cost, 0.001)
    plan = np.zeros_like(cost)
    plan[:4, 1] = plan[4:, 0] = 1 / 8
    # The threshold 1e-4 times the conditioning.
    np.testing.assert_allclose(cost_gradient, plan, rtol=0, atol=1e-3)
    np.testing.assert_allclose(epsilon_gradient, 0.0, rtol=0, atol=1e-3)
    # Moving mass within a part moves the cost of its rows.
    moved = a_gradient[0, :, None] + b_gradient[0]
    np.testing.assert_allclose(moved[plan > 0], cost[plan > 0], rtol=0, atol=1e-3)
    # From one part to the other, it costs no more than the longest path.
    assert np.ptp(a_gradient) <= 10


@pytest.mark.parametrize("epsilon", FORMS)
def test_a_mass_next_to_zero_has_the_gradient_of_its_limit(epsilon):
    a, b, cost = draw_masses()
    a[:, 0] = 0.0
    a /= a.sum(axis=1, keepdims=True)
    _, (a_gradient, b_gradient, _, _) = gradients(["regularized_cost"], a, b, cost, epsilon, **TIGHT)
    for index in range(4):
        log_masses = np.log(a[index, 1:]), np.log(b[index])
        solution = reference.sinkhorn(*log_masses, cost[1:], epsilon, tolerance=1e-12)
        shift = np.mean(a_gradient[index, 1:] - solution.f)
        # The threshold 1e-11 times the conditioning.
        np.testing.assert_allclose(a_gradient[index, 1:] - shift, solution.f, rtol=0, atol=1e-7)
        np.testing.assert_allclose(b_gradient[index] + shift, solution.g, rtol=0, atol=1e-7)
        # An update of the row that has hardly any mass: what the others leave for it.
        log_sum = np.log(np.sum(np.exp((solution.g - cost[0]) / epsilon)))
        expected = epsilon * (np.log(np.finfo(np.float64).tiny) - log_sum)
        np.testing.assert_allclose(a_gradient[index, 0] - shift, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("epsilon", FORMS)
@pytest.mark.parametrize(
    ("penalties", "transposed"), [(BOTH_FREE, False), ({"tau_a": 0.01, "tau_b": 20.0}, False), slow(COLUMNS_FREE, True)]
)
def test_unbalanced_agrees_with_the_reference(penalties, transposed, epsilon):
    a, b, cost = draw_masses(transposed)
    if len(penalties) == 2:
        # No side has to have the mass of the other.
        a, b = 3.0 * a, 0.5 * b
    output = sinkhorn(a, b, cost, epsilon, **penalties, **TIGHT)
    assert output.converged.numpy().all()
    for index in range(4):
        solution = reference.unbalanced_sinkhorn(np.log(a[index]), np.log(b[index]), cost, epsilon, **penalties)
        # The threshold 1e-11 times the conditioning, and the reference's 1e-13 over epsilon.
        np.testing.assert_allclose(output.regularized_cost[index], solution.regularized_cost, rtol=0, atol=1e-9)
        np.testing.assert_allclose(output.plan()[index], solution.plan, rtol=0, atol=1e-7)
        for name in ("transport_cost", "f", "g"):
            np.testing.assert_allclose(getattr(output, name)[index], getattr(solution, name), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("dtype", "lowest", "tau"),
    [("float32", -1.0, "tau_a"), slow("float64", 20.0, "tau_b"), slow("float32", 20.0, "tau_b")],
)
def test_penalties_under_costs_far_from_zero(dtype, lowest, tau):
    # Fixed marginals do not feel a constant in the costs, and a kernel may leave it out, but free ones do.
    a, b, cost = (x.astype(dtype) for x in draw_masses())
    cost = cost / 20 + lowest
    output = sinkhorn(a, b, cost, 0.001, **{tau: 0.01})
    assert output.converged.numpy().all()
    for index in range(4):
        log_masses = [np.log(np.float64(x[index]) / x[index].sum(dtype="float64")) for x in (a, b)]
        solution = reference.unbalanced_sinkhorn(*log_masses, cost, 0.001, **{tau: 0.01})
        # The default threshold 1e-4 times the distance of the potentials; rounding of terms of the size of the cost.
        atol = 1e-4 + 10 * np.finfo(dtype).eps * abs(lowest)
        np.testing.assert_allclose(output.regularized_cost[index], solution.regularized_cost, rtol=0, atol=atol)
