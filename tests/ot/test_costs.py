"""Gradients of the two costs against central differences; the solution with penalties, which have gradients too."""

import numpy as np
import ot
import pytest
import tensorflow as tf

from jtln_tf.ot import sinkhorn, sinkhorn_from_logits
from tests import reference

# The costs have range 1: the kernel in float32, in float64, and log-sum-exp.
FORMS = (0.1, 0.005, 0.001)
# float64 lets the potentials be exact to this over a mass, and a difference quotient needs it.
TIGHT = {"threshold": 1e-11, "max_iterations": 20_000}
# Penalties (tau_a, tau_b), in units of the range of the costs; None keeps the marginals fixed.
PENALTIES = {"balanced": (None, None), "unbalanced": (0.7, 0.4), "columns_free": (None, 0.5)}
COSTS = ("regularized_cost", "transport_cost")
WEIGHTS = np.array([1.0, -2.0, 0.0, 3.5])


def draw_problems(transposed=False, seed=0):
    """Marginals of 4 problems and a cost matrix of range 1; no two sums of masses are equal."""
    rng = np.random.default_rng(seed)
    a, b = (reference.softmax(rng.normal(size=(4, size))) for size in (6, 5))
    cost = rng.uniform(size=(6, 5))
    cost = (cost - cost.min()) / np.ptp(cost)
    return (b, a, cost.T) if transposed else (a, b, cost)


def penalties(name, transposed=False):
    tau_a, tau_b = PENALTIES[name]
    return {"tau_a": tau_b, "tau_b": tau_a} if transposed else {"tau_a": tau_a, "tau_b": tau_b}


def gradients(name, a, b, cost, epsilon, weights=WEIGHTS, solve=sinkhorn, **options):
    """Gradients in a, b, costs and epsilon of the weighted sum of the cost that is named."""
    inputs = [tf.constant(x) for x in (a, b, cost, np.asarray(epsilon, np.asarray(cost).dtype))]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(tf.constant(weights, inputs[0].dtype) * getattr(solve(*inputs, **options), name))
    return [gradient.numpy() for gradient in tape.gradient(loss, inputs)]


def central_differences(name, inputs, moves, solve=sinkhorn, **options):
    """Differences of each problem's cost for moves of the inputs (a, b, cost, epsilon) by plus and minus `moves`."""
    values = []
    for sign in (1, -1):
        moved = [x + sign * move for x, move in zip(inputs, moves, strict=True)]
        values.append(getattr(solve(*moved[:3], tf.constant(moved[3], tf.float64), **options), name).numpy())
    return (values[0] - values[1]) / 2


def centred(gradient):
    """Gradient in masses that sum to 1, of which only the part along the simplex is defined."""
    return gradient - gradient.mean(axis=1, keepdims=True) if np.ndim(gradient) == 2 else gradient


@pytest.mark.parametrize("epsilon", FORMS)
@pytest.mark.parametrize(
    ("penalty", "transposed"), [("balanced", False), ("balanced", True), ("unbalanced", False), ("columns_free", True)]
)
@pytest.mark.parametrize("name", COSTS)
def test_agree_with_central_differences(name, transposed, penalty, epsilon):
    a, b, cost = draw_problems(transposed)
    options = penalties(penalty, transposed) | TIGHT
    inputs = (a, b, cost, epsilon)
    a_gradient, b_gradient, cost_gradient, epsilon_gradient = gradients(name, *inputs, **options)
    rng = np.random.default_rng(1)
    # The costs are smooth on the scale of epsilon, so that the error is the square of this (1e-6).
    step = 1e-3 * min(1.0, 10 * epsilon)

    def assert_agree(gradient_along, moves):
        difference = central_differences(name, inputs, moves, **options)
        # The square of the step; the threshold 1e-11 over a step of 1e-5 times the conditioning.
        np.testing.assert_allclose(gradient_along / step, WEIGHTS * difference / step, rtol=1e-4, atol=1e-4)

    for side, masses, gradient in ((0, a, a_gradient), (1, b, b_gradient)):
        direction = masses * rng.normal(size=masses.shape)
        if options["tau_a" if side == 0 else "tau_b"] is None:
            # Within the simplex: the masses still sum to 1.
            direction -= masses * direction.sum(axis=1, keepdims=True)
        moves = [0.0, 0.0, 0.0, 0.0]
        moves[side] = step * direction
        assert_agree((gradient * moves[side]).sum(axis=1), moves)
    # Costs and epsilon are shared: what is left is the weighted sum over the problems.
    direction = rng.normal(size=cost.shape)
    difference = WEIGHTS @ central_differences(name, inputs, [0.0, 0.0, step * epsilon * direction, 0.0], **options)
    np.testing.assert_allclose((cost_gradient * direction).sum(), difference / (step * epsilon), rtol=1e-4, atol=1e-4)
    difference = WEIGHTS @ central_differences(name, inputs, [0.0, 0.0, 0.0, step * epsilon], **options)
    np.testing.assert_allclose(epsilon_gradient, difference / (step * epsilon), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("epsilon", FORMS)
@pytest.mark.parametrize("name", COSTS)
def test_float32_agrees_with_float64(name, epsilon):
    inputs = [x.astype("float32") for x in draw_problems()]
    found = gradients(name, *inputs, epsilon, threshold=1e-6)
    # Masses that were rounded sum to 1 only up to 1e-7, and so the threshold cannot be tighter.
    expected = gradients(name, *(np.float64(x) for x in inputs), epsilon, threshold=1e-6, max_iterations=20_000)
    for side in (0, 1):
        found[side], expected[side] = centred(found[side]), centred(expected[side])
    for gradient, expected_gradient in zip(found, expected, strict=True):
        # The threshold 1e-6 over the least mass (0.03 here) times the conditioning.
        largest = np.abs(expected_gradient).max()
        np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=1e-6 + 1e-3 * largest)


def degenerate_masses(dtype):
    """One-hot on both sides, on one side, a single zero, and two thirds of zeros."""
    a = [np.eye(6)[2], np.eye(6)[0], [0.0, 0.1, 0.2, 0.3, 0.15, 0.25], [0.5, 0.0, 0.0, 0.5, 0.0, 0.0]]
    b = [np.eye(5)[4], [0.1, 0.2, 0.3, 0.15, 0.25], np.eye(5)[0], [0.0, 0.0, 0.5, 0.0, 0.5]]
    return np.array(a, dtype), np.array(b, dtype)


def underflowed_logits(dtype):
    a = [[1e4, -1e4, 0, 1, 2, -1e4], [-1e4, 0, 0, 0, 1, 0], [1e4, 1e4, 1e4, -1e4, 0, 0], [0, 0, 0, 0, 0, 1e4]]
    b = [[0, 1, 2, 3, 1e4], [1e4, -1e4, 1e4, -1e4, 1e4], [-1e4, -1e4, -1e4, -1e4, 0], [1, -1e4, 2, -1e4, 3]]
    return np.array(a, dtype), np.array(b, dtype)


@pytest.mark.parametrize("epsilon", FORMS)
@pytest.mark.parametrize(
    ("penalty", "dtype"), [("balanced", "float32"), ("unbalanced", "float32"), ("columns_free", "float64")]
)
@pytest.mark.parametrize("draw", [degenerate_masses, underflowed_logits])
def test_masses_of_zero_have_finite_gradients(draw, penalty, dtype, epsilon):
    solve = sinkhorn if draw is degenerate_masses else sinkhorn_from_logits
    # Rows that are duplicates, too.
    cost = draw_problems()[2].astype(dtype)
    cost[1] = cost[0]
    inputs = [tf.constant(x) for x in (*draw(dtype), cost, np.asarray(epsilon, dtype))]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        output = solve(*inputs, **penalties(penalty))
        values = [getattr(output, name) for name in COSTS]
    assert output.converged.numpy().all()
    for tensor in (output.f, output.g, *values):
        assert np.isfinite(tensor).all()
    for value in values:
        for gradient in tape.gradient(value, inputs):
            assert np.isfinite(gradient).all()


def test_transport_between_two_parts_that_hardly_exchange_mass(dtype="float64"):
    # Each column takes just the mass of four rows, and no plan entry joins the two parts but those that underflow.
    cost = np.array(
        [[0.55, 0.5, 0.6, 0.8, 0.03, 0.04, 0.09, 0.29], [0.1, 0.29, 0.32, 0.91, 0.4, 0.8, 0.84, 0.82]], dtype
    ).T
    a, b = np.full((1, 8), 1 / 8, dtype), np.full((1, 2), 1 / 2, dtype)
    a_gradient, b_gradient, cost_gradient, epsilon_gradient = gradients(
        "transport_cost", a, b, cost, 0.001, weights=np.ones(1)
    )
    plan = np.zeros_like(cost)
    plan[:4, 1] = plan[4:, 0] = 1 / 8
    # float32 over epsilon in the plan, and the threshold 1e-4.
    np.testing.assert_allclose(cost_gradient, plan, rtol=0, atol=1e-3)
    np.testing.assert_allclose(epsilon_gradient, 0.0, rtol=0, atol=1e-3)
    # Moving mass within a part moves the cost of its rows.
    moved = a_gradient[0, :, None] + b_gradient[0]
    np.testing.assert_allclose(moved[plan > 0], cost[plan > 0], rtol=0, atol=1e-3)
    # From one part to the other, it costs no more than the longest path.
    assert np.ptp(a_gradient) <= 10


@pytest.mark.parametrize("epsilon", FORMS)
def test_a_mass_next_to_zero_has_the_gradient_of_its_limit(epsilon):
    a, b, cost = draw_problems()
    a[:, 0] = 0.0
    a /= a.sum(axis=1, keepdims=True)
    solutions = [
        reference.newton(np.log(x[1:]), np.log(y), cost[1:], epsilon, tolerance=1e-12)
        for x, y in zip(a, b, strict=True)
    ]
    a_gradient, b_gradient, _, _ = gradients("regularized_cost", a, b, cost, epsilon, np.ones(4), **TIGHT)
    for index, solution in enumerate(solutions):
        shift = np.mean(a_gradient[index, 1:] - solution.f)
        # The threshold 1e-11 over the least mass, in units of epsilon.
        np.testing.assert_allclose(a_gradient[index, 1:] - shift, solution.f, rtol=0, atol=1e-7)
        np.testing.assert_allclose(b_gradient[index] + shift, solution.g, rtol=0, atol=1e-7)
        # An update of the row that has hardly any mass: what the others leave for it.
        expected = epsilon * np.log(np.finfo(np.float64).tiny) - epsilon * np.log(
            np.sum(np.exp((solution.g - cost[0]) / epsilon))
        )
        np.testing.assert_allclose(a_gradient[index, 0] - shift, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("epsilon", FORMS)
@pytest.mark.parametrize(("taus", "transposed"), [((0.7, 0.4), False), ((None, 0.5), True), ((0.01, 20.0), False)])
def test_unbalanced_agrees_with_the_reference(transposed, taus, epsilon):
    a, b, cost = draw_problems(transposed)
    if None not in taus:
        # No side has to have the mass of the other.
        a, b = 3.0 * a, 0.5 * b
    output = sinkhorn(a, b, cost, epsilon, tau_a=taus[0], tau_b=taus[1], **TIGHT)
    assert output.converged.numpy().all()
    for index in range(4):
        solution = reference.unbalanced_sinkhorn(np.log(a[index]), np.log(b[index]), cost, epsilon, *taus)
        # The threshold 1e-11 times the conditioning, and the reference's 1e-13 over epsilon.
        np.testing.assert_allclose(output.regularized_cost[index], solution.regularized_cost, rtol=0, atol=1e-9)
        np.testing.assert_allclose(output.transport_cost[index], solution.transport_cost, rtol=0, atol=1e-7)
        np.testing.assert_allclose(output.plan()[index], solution.plan, rtol=0, atol=1e-7)
        np.testing.assert_allclose(output.f[index], solution.f, rtol=0, atol=1e-7)
        np.testing.assert_allclose(output.g[index], solution.g, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("dtype", "lowest"), [("float32", -1.0), ("float64", 20.0)])
@pytest.mark.parametrize("rows_free", [False, True])
def test_penalties_under_costs_far_from_zero(rows_free, dtype, lowest):
    # Fixed marginals do not feel a constant in the costs, and a kernel may leave it out, but free ones do.
    a, b, cost = (x.astype(dtype) for x in draw_problems())
    cost = cost / 20 + lowest
    tau_a, tau_b = (0.01, None) if rows_free else (None, 0.01)
    output = sinkhorn(a, b, cost, 0.001, tau_a=tau_a, tau_b=tau_b)
    assert output.converged.numpy().all()
    for index in range(4):
        log_masses = [np.log(np.float64(x[index]) / x[index].sum(dtype="float64")) for x in (a, b)]
        solution = reference.unbalanced_sinkhorn(*log_masses, cost, 0.001, tau_a, tau_b)
        # The default threshold 1e-4 times the distance of the potentials; rounding of terms of the size of the cost.
        atol = 1e-4 + 10 * np.finfo(dtype).eps * abs(lowest)
        np.testing.assert_allclose(output.regularized_cost[index], solution.regularized_cost, rtol=0, atol=atol)


@pytest.mark.parametrize("taus", [(0.7, 0.4), (np.inf, 0.5)])
def test_unbalanced_agrees_with_pot(taus):
    a, b, cost = draw_problems()
    tau_a, tau_b = (None if np.isinf(tau) else tau for tau in taus)
    output = sinkhorn(a, b, cost, 0.1, tau_a=tau_a, tau_b=tau_b, **TIGHT)
    for index in range(4):
        # POT's c is what P is compared with: by default a b^T, here 1 for the plain entropy. An infinite reg_m fixes
        # a marginal.
        plan, log = ot.unbalanced.sinkhorn_unbalanced(
            a[index], b[index], cost, 0.1, taus, c=np.ones_like(cost), numItermax=50_000, stopThr=1e-14, log=True
        )
        # Both thresholds times the conditioning.
        np.testing.assert_allclose(output.plan()[index], plan, rtol=0, atol=1e-8)
        # POT's divergences are sum p log(p / q) alone. All masses are 1 but that of the plan.
        value = log["total_cost"] + (1 - plan.sum()) * (0.1 + (tau_a or 0.0) + tau_b)
        np.testing.assert_allclose(output.regularized_cost[index], value, rtol=0, atol=1e-8)
