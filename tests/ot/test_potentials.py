"""How exact the solutions are over the whole range of epsilon, at the seams of the forms, and block by block."""

import numpy as np
import ot
import pytest

from jtln_tf.ot import blocks, sinkhorn, sinkhorn_from_logits
from tests import reference
from tests.ot.problems import draw_cost, draw_problems, gradients

# In units of the range of the costs, at which the forms have their seams: 1 / 60 and 1 / 600.
EPSILONS = (10.0, 0.1, 1 / 59.9, 1 / 60.1, 1 / 599.0, 1 / 601.0, 0.001)


def centred(potential, masses):
    """Potential less its mean over the masses: the part that is defined, and the gradient along the simplex."""
    return potential - (masses * potential).sum()


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_potentials_are_exact(dtype, epsilon):
    # Masses down to 1e-13.
    inputs = draw_problems((0.1, 2.0, 4.0, 6.0), 31, 20, seed=1)
    log_masses = zip(*map(reference.log_softmax, inputs[:2]), strict=True)
    solutions = [reference.sinkhorn(log_a, log_b, inputs[2], epsilon) for log_a, log_b in log_masses]
    output = sinkhorn_from_logits(*(x.astype(dtype) for x in inputs), epsilon, threshold=1e-6)
    assert output.converged.numpy().all()
    masses = [reference.softmax(x) for x in inputs[:2]]
    for index, solution in enumerate(solutions):
        # The dual is concave: off by at most the threshold 1e-6 times the distance of the potentials (below 1 here);
        # float32 adds its rounding of terms of the size of epsilon times the log masses.
        error = abs(output.regularized_cost[index].numpy() - solution.regularized_cost)
        assert error <= 2e-6 + np.finfo(dtype).eps * 30 * epsilon
        for found, expected, mass in ((output.f, solution.f, masses[0]), (output.g, solution.g, masses[1])):
            expected = centred(expected, mass[index])
            error = np.abs(centred(np.float64(found[index]), mass[index]) - expected)
            # Of every class, however small its mass: the threshold over the masses, smoothed by the last update.
            assert error.max() <= 1e-3 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", (0.02, 0.005, 0.001))
def test_assignments_converge(epsilon, threshold=1e-4):
    # All masses are equal, or many subsets have equal sums. Such a dual is degenerate: the error of plain updates
    # falls as 1 / iterations.
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2, 65, 2))
    cost = np.linalg.norm(points[0][:, None] - points[1], axis=2)
    cost = (cost - cost.min()) / np.ptp(cost)
    a = np.stack([np.ones(65), rng.integers(1, 4, 65)])
    a /= a.sum(axis=1, keepdims=True)
    b = rng.permuted(a, axis=1)
    output = sinkhorn(a, b, cost, epsilon, threshold=threshold)
    assert output.converged.numpy().all(), f"{output.n_iters=} {output.marginal_error=}"
    solutions = [reference.sinkhorn(np.log(x), np.log(y), cost, epsilon) for x, y in zip(a, b, strict=True)]
    # The threshold times the range of the costs.
    expected = [solution.regularized_cost for solution in solutions]
    np.testing.assert_allclose(output.regularized_cost, expected, rtol=0, atol=threshold)
    # Not stationary: the mass that is wrong may have taken a detour of many classes.
    expected = [solution.transport_cost for solution in solutions]
    np.testing.assert_allclose(output.transport_cost, expected, rtol=0, atol=20 * threshold)


@pytest.mark.parametrize(("transposed", "epsilon"), [(False, 0.1), (True, 0.005), (False, 0.001)])
def test_the_solution_is_a_start_that_is_solved_at_once(transposed, epsilon):
    a_logits, b_logits, cost = draw_problems()
    inputs = (b_logits, a_logits, cost.T) if transposed else (a_logits, b_logits, cost)
    cold = sinkhorn_from_logits(*inputs, epsilon, threshold=1e-5)
    # Potentials that are rounded to float32 before a division by epsilon are off by up to 1e-4 in a plan.
    warm = sinkhorn_from_logits(*inputs, epsilon, threshold=3e-4, initial_potentials=(cold.f, cold.g))
    assert np.all(warm.n_iters <= 1) and np.any(cold.n_iters > 1)
    np.testing.assert_allclose(warm.regularized_cost, cold.regularized_cost, rtol=1e-6, atol=2e-5)


@pytest.mark.slow
def test_problems_may_share_a_block_with_any_other():
    # Two problems a block: three blocks of the five, the last one filled up.
    n, m, epsilon = blocks._BLOCK_ENTRIES // 60, 30, 0.001
    a_logits, b_logits, cost = draw_problems(np.ones(5), n, m, seed=3)
    a, b, cost = reference.softmax(a_logits), reference.softmax(b_logits), np.float64(cost)
    weights = np.array([1.0, -2.0, 0.5, 0.0, 3.0])
    costs = ("regularized_cost", "transport_cost")
    forwards, *ours = gradients(costs, a, b, cost, epsilon, weights, threshold=1e-9)
    backwards, *others = gradients(costs, a[::-1], b[::-1], cost, epsilon, weights[::-1], threshold=1e-9)
    # The arithmetic of a problem does not depend on its neighbours, but for the order of sums: float64 over epsilon.
    assert forwards.converged.numpy().all()
    np.testing.assert_array_equal(forwards.n_iters, backwards.n_iters[::-1])
    for name in ("f", "g", "transport_cost"):
        np.testing.assert_allclose(getattr(forwards, name), getattr(backwards, name)[::-1], rtol=0, atol=1e-9)
    for own, other in zip(ours, others, strict=True):
        for side in (0, 1):
            np.testing.assert_allclose(own[side], other[side][::-1], rtol=0, atol=1e-6)
        # The costs are shared.
        np.testing.assert_allclose(own[2], other[2], rtol=0, atol=1e-6)
    # A problem that fills up the last block is not counted twice.
    plans = forwards.plan().numpy()
    np.testing.assert_allclose(ours[0][2], np.einsum("b,bnm->nm", weights, plans), rtol=0, atol=1e-9)
    np.testing.assert_allclose(forwards.transport_cost, (plans * cost).sum((1, 2)), rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [1e-3, 1e-4])
def test_random_problems_converge_at_small_epsilon(epsilon):
    rng = np.random.default_rng(2)
    a, b = (reference.softmax(3 * rng.normal(size=(1000, size))) for size in (6, 5))
    cost = draw_cost(6, 5, seed=2)
    output = sinkhorn(a, b, cost, epsilon)
    assert output.converged.numpy().all(), f"{output.n_iters=}"
    exact = np.array([ot.emd2(x, y, cost) for x, y in zip(a, b, strict=True)])
    # 0 <= H(P) <= log(n m), and the threshold 1e-4 times the range of the costs.
    assert np.all(output.regularized_cost <= exact + 1e-4)
    assert np.all(output.regularized_cost >= exact - epsilon * np.log(cost.size) - 1e-4)


def test_a_broken_problem_costs_no_iterations():
    a_logits, b_logits, cost = draw_problems()
    a_logits[1] = np.nan
    output = sinkhorn_from_logits(a_logits, b_logits, cost, 0.001)
    np.testing.assert_array_equal(output.converged, [True, False, True, True])
    assert output.n_iters[1] == 0
