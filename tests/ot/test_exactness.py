"""How exact the solutions are over the whole range of epsilon, at the seams of the forms, and block by block."""

import functools

import numpy as np
import ot
import pytest
import tensorflow as tf

from jtln_tf.ot import blocks, sinkhorn, sinkhorn_from_logits
from tests import reference

# In units of the range of the costs. The seams of the forms are at 1 / 60 and 1 / 600.
EPSILONS = (10.0, 0.1, 0.02, 1 / 59.9, 1 / 60.1, 0.005, 1 / 599.0, 1 / 601.0, 0.001)
DTYPES = ("float32", "float64")


def draw_cost(n, m, seed=0):
    cost = np.random.default_rng(seed).uniform(size=(n, m))
    return (cost - cost.min()) / np.ptp(cost)


@functools.cache
def draw_problems():
    """Logits of 4 problems, flat, of two heads, and peaked (masses from 1 to 1e-13), and costs of range 1."""
    rng = np.random.default_rng(1)
    spread = np.array([0.1, 2.0, 4.0, 6.0])[:, None]
    a_logits, b_logits = (spread * rng.normal(size=(4, size)) for size in (31, 20))
    # Rounded, so that float32 and float64 have the same problems.
    return [np.float32(x) for x in (a_logits, b_logits, draw_cost(31, 20))]


@functools.cache
def reference_solutions(epsilon):
    a_logits, b_logits, cost = draw_problems()
    log_masses = zip(reference.log_softmax(a_logits), reference.log_softmax(b_logits), strict=True)
    return [reference.newton(log_a, log_b, cost, epsilon) for log_a, log_b in log_masses]


def centred(potential, masses):
    """Potential less its mean over the masses: the part that is defined, and the gradient along the simplex."""
    return potential - (masses * potential).sum()


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_and_gradients_are_exact(dtype, epsilon):
    inputs = [x.astype(dtype) for x in draw_problems()]
    output = sinkhorn_from_logits(*inputs, epsilon, threshold=1e-6)
    assert output.converged.numpy().all()
    masses = [reference.softmax(x) for x in inputs[:2]]
    for index, solution in enumerate(reference_solutions(epsilon)):
        # The dual is concave: off by at most the threshold 1e-6 times the distance of the potentials (below 1 here);
        # float32 adds its rounding of terms of the size of epsilon times the log masses.
        error = abs(output.regularized_cost[index].numpy() - solution.regularized_cost)
        assert error <= 2e-6 + np.finfo(dtype).eps * 30 * epsilon
        for potential, expected, mass in zip(
            (output.f, output.g), (solution.f, solution.g), (m[index] for m in masses), strict=True
        ):
            expected = centred(expected, mass)
            error = np.abs(centred(np.float64(potential[index]), mass) - expected)
            # Of every class, however small its mass: the threshold over the masses, smoothed by the last update.
            assert error.max() <= 1e-3 * np.abs(expected).max()


@functools.cache
def draw_assignments():
    """Masses that are all equal, and few values of masses, of which many subsets have equal sums."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2, 65, 2))
    cost = np.linalg.norm(points[0][:, None] - points[1], axis=2)
    cost = (cost - cost.min()) / np.ptp(cost)
    a = np.stack([np.ones(65), rng.integers(1, 4, 65)])
    a /= a.sum(axis=1, keepdims=True)
    return a, rng.permuted(a, axis=1), cost


@functools.cache
def reference_assignments(epsilon):
    a, b, cost = draw_assignments()
    return [reference.newton(np.log(x), np.log(y), cost, epsilon) for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("epsilon", (0.02, 0.005, 0.001))
def test_assignments_converge(epsilon, threshold=1e-4):
    # Their dual is degenerate: the error of plain updates falls as 1 / iterations.
    output = sinkhorn(*draw_assignments(), epsilon, threshold=threshold)
    assert output.converged.numpy().all(), f"{output.n_iters=} {output.marginal_error=}"
    solutions = reference_assignments(epsilon)
    # The threshold times the range of the costs.
    expected = [solution.regularized_cost for solution in solutions]
    np.testing.assert_allclose(output.regularized_cost, expected, rtol=0, atol=threshold)
    # Not stationary: the mass that is wrong may have taken a detour of many classes.
    expected = [solution.transport_cost for solution in solutions]
    np.testing.assert_allclose(output.transport_cost, expected, rtol=0, atol=20 * threshold)


@pytest.mark.parametrize("seam", [60.0, 600.0])
def test_both_sides_of_a_ratio_agree(seam):
    a_logits, b_logits, cost = (x.copy() for x in draw_problems())
    # A row without mass decides about the range of the costs, and so about the form.
    a_logits[:, 0] = -1e4
    epsilon = 1.1 / seam
    outputs = []
    for ratio in (0.999 * seam, 1.001 * seam):
        cost[0, 0] = ratio * epsilon
        outputs.append(sinkhorn_from_logits(a_logits, b_logits, cost, epsilon, threshold=1e-5))
    below, above = outputs
    # Each is within the threshold 1e-5 times the distance of the potentials.
    np.testing.assert_allclose(below.regularized_cost, above.regularized_cost, rtol=0, atol=2e-5)
    # The potentials move by it too, over the masses: the threshold times the conditioning.
    np.testing.assert_allclose(below.plan(), above.plan(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("transposed", "epsilon"), [(False, 0.1), (True, 0.005), (False, 0.001)])
def test_the_solution_is_a_start_that_is_solved_at_once(transposed, epsilon):
    a_logits, b_logits, cost = draw_problems()
    inputs = (b_logits, a_logits, cost.T) if transposed else (a_logits, b_logits, cost)
    cold = sinkhorn_from_logits(*inputs, epsilon, threshold=1e-5)
    # Potentials that are rounded to float32 before a division by epsilon are off by up to 1e-4 in a plan.
    warm = sinkhorn_from_logits(*inputs, epsilon, threshold=3e-4, initial_potentials=(cold.f, cold.g))
    assert np.all(warm.n_iters <= 1) and np.any(cold.n_iters > 1)
    np.testing.assert_allclose(warm.regularized_cost, cold.regularized_cost, rtol=1e-6, atol=2e-5)


def test_problems_may_share_a_block_with_any_other():
    # Two problems a block: three blocks of the five, the last one filled up.
    n, m, epsilon = blocks._BLOCK_ENTRIES // 60, 30, 0.001
    rng = np.random.default_rng(3)
    a, b = (reference.softmax(rng.normal(size=(5, size))) for size in (n, m))
    cost = draw_cost(n, m)
    weights = np.array([1.0, -2.0, 0.5, 0.0, 3.0])

    def solve(order):
        inputs = [tf.constant(x) for x in (a[order], b[order], cost)]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            output = sinkhorn(*inputs, epsilon, threshold=1e-9)
            losses = [tf.reduce_sum(weights[order] * x) for x in (output.regularized_cost, output.transport_cost)]
        assert output.converged.numpy().all()
        return output, [[x.numpy() for x in tape.gradient(loss, inputs)] for loss in losses]

    forwards, gradients = solve([0, 1, 2, 3, 4])
    backwards, other_gradients = solve([4, 3, 2, 1, 0])
    # The arithmetic of a problem does not depend on its neighbours, but for the order of sums: float64 over epsilon.
    np.testing.assert_array_equal(forwards.n_iters, backwards.n_iters[::-1])
    np.testing.assert_allclose(forwards.f, backwards.f[::-1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(forwards.g, backwards.g[::-1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(forwards.transport_cost, backwards.transport_cost[::-1], rtol=0, atol=1e-9)
    for ours, others in zip(gradients, other_gradients, strict=True):
        for side in (0, 1):
            np.testing.assert_allclose(ours[side], others[side][::-1], rtol=0, atol=1e-6)
        # The costs are shared.
        np.testing.assert_allclose(ours[2], others[2], rtol=0, atol=1e-6)
    # A problem that fills up the last block is not counted twice.
    plans = forwards.plan().numpy()
    np.testing.assert_allclose(gradients[0][2], np.einsum("b,bnm->nm", weights, plans), rtol=0, atol=1e-9)
    np.testing.assert_allclose(forwards.transport_cost, (plans * cost).sum((1, 2)), rtol=0, atol=1e-9)


def draw_batch(batch, n, m, seed=2):
    rng = np.random.default_rng(seed)
    a, b = (reference.softmax(3 * rng.normal(size=(batch, size))) for size in (n, m))
    return a, b, draw_cost(n, m, seed)


def test_marginal_error_bounds_that_of_the_plan_wherever_it_stops():
    a, b, cost = draw_batch(400, 12, 10)
    for max_iterations in (2, 20, 75):
        output = sinkhorn(a, b, cost, 0.01, threshold=1e-9, max_iterations=max_iterations)
        error = np.abs(output.plan().numpy().sum(1) - b).sum(1)
        # float64 over epsilon.
        assert np.all(error <= output.marginal_error + 1e-11)


@pytest.mark.parametrize("epsilon", [1e-3, 1e-4])
def test_random_problems_converge_at_small_epsilon(epsilon):
    a, b, cost = draw_batch(1000, 6, 5)
    output = sinkhorn(a, b, cost, epsilon)
    assert output.converged.numpy().all(), f"{output.n_iters=}"
    exact = np.array([ot.emd2(x, y, cost) for x, y in zip(a, b, strict=True)])
    # 0 <= H(P) <= log(n m), and the threshold 1e-4 times the range of the costs.
    assert np.all(output.regularized_cost <= exact + 1e-4)
    assert np.all(output.regularized_cost >= exact - epsilon * np.log(cost.size) - 1e-4)


def test_a_broken_problem_costs_no_iterations():
    a, b, cost = draw_batch(3, 4, 3)
    a[1] = np.nan
    output = sinkhorn(a, b, cost, 0.001)
    np.testing.assert_array_equal(output.converged, [True, False, True])
    assert output.n_iters[1] == 0
