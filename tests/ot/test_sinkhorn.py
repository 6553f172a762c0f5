import functools
import subprocess
import sys

import numpy as np
import ot
import pytest
from tests import reference
import tensorflow as tf

from jtln_tf.ot import sinkhorn, sinkhorn_from_logits

# The costs have range 1, so that the seams of the three forms are at epsilon = 1 / 60 and 1 / 600.
EPSILONS = (10.0, 1.0, 0.1, 0.02, 1 / 59.9, 1 / 60.1, 0.005, 1 / 599.0, 1 / 601.0, 0.001)
# One epsilon for each form: the kernel in float32, in float64, and log-sum-exp.
FORMS = (0.1, 0.005, 0.001)
FLOAT32_ROUNDING = 2.0**-24
TIGHT = {"threshold": 1e-10, "max_iterations": 100_000}


def draw_problems(dtype="float32", batch=4, n=6, m=5, seed=0):
    """Logits of two heads and a cost matrix of range 1; the first two problems are flat and peaked."""
    rng = np.random.default_rng(seed)
    spread = np.array([0.1, 8.0, 2.0, 2.0])[:batch, None]
    cost = rng.uniform(size=(n, m))
    cost = (cost - cost.min()) / np.ptp(cost)
    logits = (spread * rng.normal(size=(batch, size)) for size in (n, m))
    return (*(x.astype(dtype) for x in logits), cost.astype(dtype))


A_LOGITS, B_LOGITS, COST = draw_problems()


@functools.cache
def reference_solutions(epsilon):
    return [
        reference.sinkhorn(reference.log_softmax(x), reference.log_softmax(y), COST, epsilon)
        for x, y in zip(A_LOGITS, B_LOGITS, strict=True)
    ]


def value_and_gradients(logits_a, logits_b, cost, epsilon, weights=1.0, **options):
    logits_a, logits_b = tf.constant(logits_a), tf.constant(logits_b)
    with tf.GradientTape() as tape:
        tape.watch([logits_a, logits_b])
        output = sinkhorn_from_logits(logits_a, logits_b, cost, epsilon, **options)
        loss = tf.reduce_sum(weights * output.regularized_cost)
    return output, *(gradient.numpy() for gradient in tape.gradient(loss, [logits_a, logits_b]))


def rounding_of_the_plan(output, epsilon):
    """Relative error of the plan of potentials and costs that were rounded to float32 before a division by epsilon."""
    largest = max(np.abs(x).max() for x in (output.f, output.g, output.cost_matrix))
    # Three numbers, and the rounding of their sums.
    return FLOAT32_ROUNDING * (6 * largest / epsilon + 10)


def assert_potentials_agree(output, solutions, atol):
    for f, g, expected in zip(output.f.numpy(), output.g.numpy(), solutions, strict=True):
        shift = np.nanmean(f - expected.f)
        np.testing.assert_allclose(f - shift, expected.f, rtol=0, atol=atol)
        np.testing.assert_allclose(g + shift, expected.g, rtol=0, atol=atol)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_costs_and_plan_agree_with_the_reference(epsilon):
    solutions = reference_solutions(epsilon)
    output = sinkhorn_from_logits(A_LOGITS, B_LOGITS, COST, epsilon, threshold=1e-5, max_iterations=20_000)
    assert output.converged.numpy().all()
    # The dual is concave: the value is off by at most the marginal error (1e-5) times the distance of the potentials
    # (below 1 here); float32 adds 1e-7 of the sums' terms, which are of the size of epsilon log P.
    np.testing.assert_allclose(
        output.regularized_cost, [s.regularized_cost for s in solutions], rtol=2e-6, atol=2e-5 + 2e-6 * epsilon
    )
    # Not stationary in the potentials: the marginal error is multiplied by the conditioning, below 100 here.
    np.testing.assert_allclose(output.transport_cost, [s.transport_cost for s in solutions], rtol=0, atol=1e-3)
    np.testing.assert_allclose(output.plan(), [s.plan for s in solutions], rtol=0, atol=1e-3)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_float64_agrees_with_the_reference_to_many_digits(epsilon):
    solutions = reference_solutions(epsilon)
    output = sinkhorn_from_logits(*(np.float64(x) for x in (A_LOGITS, B_LOGITS, COST)), epsilon, **TIGHT)
    assert output.f.dtype == tf.float64 and output.converged.numpy().all()
    np.testing.assert_allclose(output.regularized_cost, [s.regularized_cost for s in solutions], rtol=1e-9, atol=1e-9)
    # The threshold 1e-10 times the conditioning.
    np.testing.assert_allclose(output.transport_cost, [s.transport_cost for s in solutions], rtol=0, atol=1e-7)
    np.testing.assert_allclose(output.plan(), [s.plan for s in solutions], rtol=0, atol=1e-7)
    assert_potentials_agree(output, solutions, atol=1e-6 * max(1, epsilon))


@pytest.mark.parametrize("epsilon", [1.0, 0.1, 0.02, 0.005])
def test_agrees_with_pot(epsilon):
    a, b, cost = (np.float64(x) for x in (reference.softmax(A_LOGITS), reference.softmax(B_LOGITS), COST))
    output = sinkhorn(a, b, cost, epsilon, **TIGHT)
    for index in range(len(a)):
        plan, log = ot.sinkhorn(
            a[index], b[index], cost, epsilon, method="sinkhorn_log", log=True, stopThr=1e-11, numItermax=100_000
        )
        np.testing.assert_allclose(output.plan()[index], plan, rtol=0, atol=1e-7)
        f, g = epsilon * log["log_u"], epsilon * log["log_v"]
        shift = np.mean(output.f[index] - f)
        np.testing.assert_allclose(output.f[index] - shift, f, rtol=0, atol=1e-6)
        np.testing.assert_allclose(output.g[index] + shift, g, rtol=0, atol=1e-6)
        np.testing.assert_allclose(output.transport_cost[index], (plan * cost).sum(), rtol=0, atol=1e-7)


def test_small_epsilon_approaches_exact_transport():
    a, b = reference.softmax(A_LOGITS), reference.softmax(B_LOGITS)
    exact = np.array([ot.emd2(x, y, np.float64(COST)) for x, y in zip(a, b, strict=True)])
    for epsilon in (0.02, 0.005, 0.001):
        output = sinkhorn_from_logits(*(np.float64(x) for x in (A_LOGITS, B_LOGITS, COST)), epsilon, **TIGHT)
        # 0 <= H(P) <= log(n m) bounds what the entropy can cost; 1e-9 is the marginal error.
        assert np.all(output.transport_cost >= exact - 1e-9)
        assert np.all(output.transport_cost <= exact + epsilon * np.log(COST.size) + 1e-9)
        assert np.all(np.abs(output.regularized_cost - exact) <= epsilon * np.log(COST.size) + 1e-9)


def test_large_epsilon_approaches_the_product_of_the_marginals():
    output = sinkhorn_from_logits(A_LOGITS, B_LOGITS, COST, 1e4)
    product = reference.softmax(A_LOGITS)[:, :, None] * reference.softmax(B_LOGITS)[:, None, :]
    # exp(-range / epsilon) is 1 to 1e-4.
    np.testing.assert_allclose(output.plan(), product, rtol=0, atol=1e-4)


@pytest.mark.parametrize("epsilon", FORMS)
def test_one_hot_marginals(epsilon):
    a = np.eye(6, dtype="float32")[[0, 1, 2, 3]]
    b = np.concatenate([np.eye(5)[[4, 0]], reference.softmax(B_LOGITS[2:])]).astype("float32")
    a, b = tf.constant(a), tf.constant(b)
    with tf.GradientTape() as tape:
        tape.watch([a, b])
        output = sinkhorn(a, b, COST, epsilon, threshold=1e-5)
        loss = tf.reduce_sum(output.regularized_cost)
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(loss, [a, b]))
    masses = (x / x.sum(1, keepdims=True) for x in (np.float64(a), np.float64(b)))
    solutions = [reference.sinkhorn_of_masses(x, y, COST, epsilon) for x, y in zip(*masses, strict=True)]
    # The plan is forced (a b^T): what is left is the threshold 1e-5 and float32.
    rounding = 1e-5 + rounding_of_the_plan(output, epsilon)
    np.testing.assert_allclose(output.plan(), [s.plan for s in solutions], rtol=0, atol=rounding)
    np.testing.assert_allclose(output.transport_cost, [s.transport_cost for s in solutions], rtol=0, atol=rounding)
    np.testing.assert_allclose(output.regularized_cost, [s.regularized_cost for s in solutions], rtol=0, atol=2e-5)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_logits_of_ten_thousand(epsilon):
    rng = np.random.default_rng(1)
    a_logits, b_logits = (rng.choice([-1e4, 1e4, 0.0], (4, size)).astype("float32") for size in (6, 5))
    output, a_gradient, b_gradient = value_and_gradients(a_logits, b_logits, COST, epsilon)
    for tensor in (output.f, output.g, output.regularized_cost, output.transport_cost, a_gradient, b_gradient):
        assert np.isfinite(tensor).all()
    assert output.converged.numpy().all()
    a, b = reference.softmax(a_logits), reference.softmax(b_logits)
    # The masses that are left are equal.
    solutions = [reference.sinkhorn_of_masses(x, y, COST, epsilon, reference.newton) for x, y in zip(a, b, strict=True)]
    # The default threshold 1e-4 times the range of the costs; float32 of terms of the size of epsilon.
    expected = [s.regularized_cost for s in solutions]
    np.testing.assert_allclose(output.regularized_cost, expected, rtol=0, atol=2e-4 + 1e-6 * epsilon)


@pytest.mark.parametrize("epsilon", (0.1, 0.001))
@pytest.mark.parametrize(("n", "m"), [(1, 5), (6, 1), (1, 1)])
def test_one_class_on_a_side(n, m, epsilon):
    a_logits, b_logits, cost = A_LOGITS[:, :n], B_LOGITS[:, :m], COST[:n, :m] / max(np.ptp(COST[:n, :m]), 0.1)
    output, a_gradient, b_gradient = value_and_gradients(a_logits, b_logits, cost, epsilon)
    a, b = reference.softmax(a_logits), reference.softmax(b_logits)
    # Only one plan has these marginals; default threshold 1e-4, and float32.
    np.testing.assert_allclose(output.plan(), a[:, :, None] * b[:, None, :], rtol=0, atol=2e-4)
    np.testing.assert_allclose(output.transport_cost, np.einsum("bn,nm,bm->b", a, cost, b), rtol=0, atol=2e-4)
    assert np.isfinite(a_gradient).all() and np.isfinite(b_gradient).all()
    for size, gradient in ((n, a_gradient), (m, b_gradient)):
        if size == 1:
            # A single class has all the mass whatever its logit.
            np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("epsilon", FORMS)
def test_identical_rows_of_the_cost_share_the_plan(epsilon):
    cost = COST.copy()
    cost[3] = cost[1]
    a_logits = A_LOGITS.copy()
    a_logits[:, 3] = a_logits[:, 1]
    output, a_gradient, _ = value_and_gradients(a_logits, B_LOGITS, cost, epsilon)
    np.testing.assert_array_equal(output.plan()[:, 3], output.plan()[:, 1])
    np.testing.assert_allclose(a_gradient[:, 3], a_gradient[:, 1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("epsilon", FORMS)
@pytest.mark.parametrize("constant", [0.0, 2.5])
def test_constant_cost_couples_independently(constant, epsilon):
    cost = np.full_like(COST, constant)
    output, a_gradient, b_gradient = value_and_gradients(A_LOGITS, B_LOGITS, cost, epsilon)
    a, b = reference.softmax(A_LOGITS), reference.softmax(B_LOGITS)
    rounding = rounding_of_the_plan(output, epsilon)
    np.testing.assert_allclose(output.plan(), a[:, :, None] * b[:, None, :], rtol=rounding, atol=1e-6)
    np.testing.assert_allclose(output.transport_cost, np.full(4, constant), rtol=rounding)
    assert np.isfinite(a_gradient).all() and np.isfinite(b_gradient).all()


@pytest.mark.parametrize("epsilon", FORMS)
def test_batch_is_a_loop_of_singles(epsilon):
    inputs = [np.float64(x) for x in (A_LOGITS, B_LOGITS, COST)]
    batch, a_gradient, b_gradient = value_and_gradients(*inputs, epsilon, **TIGHT)
    for index in range(len(A_LOGITS)):
        rows = slice(index, index + 1)
        single, *gradients = value_and_gradients(inputs[0][rows], inputs[1][rows], inputs[2], epsilon, **TIGHT)
        # A single stops by its own error: they agree to the threshold times the conditioning.
        np.testing.assert_allclose(batch.regularized_cost[rows], single.regularized_cost, rtol=0, atol=1e-8)
        np.testing.assert_allclose(batch.plan()[rows], single.plan(), rtol=0, atol=1e-7)
        np.testing.assert_allclose(a_gradient[rows], gradients[0], rtol=0, atol=1e-7)
        np.testing.assert_allclose(b_gradient[rows], gradients[1], rtol=0, atol=1e-7)


@pytest.mark.parametrize("epsilon", FORMS)
def test_transpose_swaps_the_potentials(epsilon):
    a_logits, b_logits, cost = (np.float64(x) for x in (A_LOGITS, B_LOGITS, COST))
    one = sinkhorn_from_logits(a_logits, b_logits, cost, epsilon, **TIGHT)
    other = sinkhorn_from_logits(b_logits, a_logits, cost.T, epsilon, **TIGHT)
    np.testing.assert_allclose(one.regularized_cost, other.regularized_cost, rtol=0, atol=1e-8)
    # Threshold times conditioning; the potentials differ by a constant besides.
    np.testing.assert_allclose(one.plan(), np.swapaxes(other.plan(), 1, 2), rtol=0, atol=1e-7)
    shift = np.mean(one.f - other.g, axis=1, keepdims=True)
    np.testing.assert_allclose(one.f - shift, other.g, rtol=0, atol=1e-6)
    np.testing.assert_allclose(one.g + shift, other.f, rtol=0, atol=1e-6)


@pytest.mark.parametrize("epsilon", FORMS)
@pytest.mark.parametrize("constant", [3.0, -3.0])
def test_constant_is_added_to_the_costs_only(constant, epsilon):
    plain, *gradients = value_and_gradients(A_LOGITS, B_LOGITS, COST, epsilon)
    moved, *moved_gradients = value_and_gradients(A_LOGITS, B_LOGITS, COST + np.float32(constant), epsilon)
    # COST + 3 is rounded to float32, which is divided by epsilon in the plan.
    rounding = 2 * rounding_of_the_plan(moved, epsilon)
    np.testing.assert_allclose(moved.regularized_cost, plain.regularized_cost + constant, rtol=0, atol=1e-5)
    np.testing.assert_allclose(moved.transport_cost, plain.transport_cost + constant, rtol=rounding, atol=rounding)
    np.testing.assert_allclose(moved.plan(), plain.plan(), rtol=0, atol=rounding)
    for gradient, moved_gradient in zip(gradients, moved_gradients, strict=True):
        np.testing.assert_allclose(moved_gradient, gradient, rtol=0, atol=1e-3)


@pytest.mark.parametrize("epsilon", FORMS)
def test_scaling_cost_and_epsilon_scales_the_values(epsilon):
    plain = sinkhorn_from_logits(A_LOGITS, B_LOGITS, COST, epsilon)
    # A power of 2 changes no digit.
    scaled = sinkhorn_from_logits(A_LOGITS, B_LOGITS, 64 * COST, 64 * epsilon)
    np.testing.assert_allclose(scaled.regularized_cost, 64 * plain.regularized_cost, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(scaled.f, 64 * plain.f, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("epsilon", FORMS)
def test_permutation_permutes_the_plan(epsilon):
    rows, columns = np.random.default_rng(3).permutation(6), np.random.default_rng(4).permutation(5)
    plain = sinkhorn_from_logits(A_LOGITS, B_LOGITS, COST, epsilon)
    mixed = sinkhorn_from_logits(A_LOGITS[:, rows], B_LOGITS[:, columns], COST[rows][:, columns], epsilon)
    # Sums in another order: float32 over epsilon.
    np.testing.assert_allclose(mixed.plan(), plain.plan().numpy()[:, rows][:, :, columns], rtol=0, atol=1e-4)
    np.testing.assert_allclose(mixed.regularized_cost, plain.regularized_cost, rtol=0, atol=1e-5)


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("transposed", [False, True])
def test_plan_has_the_marginals(transposed, epsilon):
    logits = (A_LOGITS, B_LOGITS)
    output = sinkhorn_from_logits(*(logits[::-1] if transposed else logits), COST.T if transposed else COST, epsilon)
    # The side with more classes is exact, and the error is that of the other.
    plan = np.swapaxes(output.plan(), 1, 2) if transposed else output.plan().numpy()
    assert np.all(plan >= 0)
    # Sums of positive terms keep the relative error of the plan; the masses sum to 1.
    rounding = rounding_of_the_plan(output, epsilon)
    larger, smaller = (reference.softmax(x) for x in logits)
    assert np.all(np.abs(plan.sum(2) - larger).sum(1) <= rounding)
    assert np.all(np.abs(plan.sum(1) - smaller).sum(1) <= output.marginal_error + rounding)
    assert np.all(output.marginal_error <= 1e-4)


@pytest.mark.parametrize("epsilon", FORMS)
@pytest.mark.parametrize("max_iterations", [1, 30, 2000])
def test_marginal_error_bounds_that_of_the_plan(max_iterations, epsilon):
    inputs = [np.float64(x) for x in (A_LOGITS, B_LOGITS, COST)]
    output = sinkhorn_from_logits(*inputs, epsilon, max_iterations=max_iterations)
    plan, marginals = output.plan().numpy(), [reference.softmax(x) for x in inputs[:2]]
    # float64 over epsilon.
    np.testing.assert_allclose(plan.sum(2), marginals[0], rtol=0, atol=1e-11)
    assert np.all(np.abs(plan.sum(1) - marginals[1]).sum(1) <= output.marginal_error + 1e-11)
    np.testing.assert_array_equal(output.converged, output.marginal_error <= 1e-4)


@pytest.mark.parametrize("epsilon", [1.0, 0.1, 0.005])
def test_marginal_error_of_the_first_update(epsilon):
    inputs = [np.float64(x) for x in (A_LOGITS, B_LOGITS, COST)]
    output = sinkhorn_from_logits(*inputs, epsilon, max_iterations=1)
    a, b = (reference.softmax(x) for x in inputs[:2])
    # From g = epsilon log b, that is P proportional to exp(-C / epsilon) b, with exact rows.
    plan = np.exp(-inputs[2] / epsilon) * b[:, None, :]
    plan *= (a / plan.sum(2))[:, :, None]
    # float64 over epsilon.
    np.testing.assert_allclose(output.marginal_error, np.abs(plan.sum(1) - b).sum(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("epsilon", (0.02, 0.005, 0.001))
@pytest.mark.parametrize("transposed", [False, True])
def test_too_few_iterations_are_told_and_finite(transposed, epsilon):
    inputs = (B_LOGITS, A_LOGITS, COST.T) if transposed else (A_LOGITS, B_LOGITS, COST)
    output, a_gradient, b_gradient = value_and_gradients(*inputs, epsilon, threshold=1e-6, max_iterations=3)
    still_open = ~output.converged.numpy()
    assert still_open.any()
    np.testing.assert_array_equal(output.n_iters[still_open], 3)
    assert np.all(output.n_iters <= 3)
    for tensor in (output.f, output.g, output.regularized_cost, output.transport_cost, a_gradient, b_gradient):
        assert np.isfinite(tensor).all()
    exact = [s.regularized_cost for s in reference_solutions(epsilon)]
    # A dual value: never above the optimum, but for float32.
    assert np.all(output.regularized_cost <= np.array(exact) + 1e-5)


def test_each_problem_tells_its_own_iterations():
    # Under a constant cost the start is the solution, and the first update finds it so.
    output = sinkhorn_from_logits(A_LOGITS, B_LOGITS, np.ones_like(COST), 0.02)
    np.testing.assert_array_equal(output.n_iters, 1)
    # Under costs that depend on the column alone it is the first update that solves them all.
    output = sinkhorn_from_logits(A_LOGITS, B_LOGITS, np.tile(COST[:1], (6, 1)), 0.02)
    # (In the second one a column has all the mass, so that it is solved from the start.)
    np.testing.assert_array_equal(output.n_iters, [2, 1, 2, 2])
    output = sinkhorn_from_logits(A_LOGITS, B_LOGITS, COST, 0.02)
    assert output.n_iters.dtype == tf.int32 and len(set(output.n_iters.numpy())) > 1
    for index, n_iters in enumerate(output.n_iters):
        rows = slice(index, index + 1)
        # A problem that is solved stays put while the others go on. One more where the sums round to the threshold.
        assert abs(sinkhorn_from_logits(A_LOGITS[rows], B_LOGITS[rows], COST, 0.02).n_iters[0] - n_iters) <= 1


@pytest.mark.parametrize("epsilon", (0.02, 0.005, 0.001))
def test_equal_masses_converge(epsilon):
    # An assignment problem, whose dual is degenerate: the error of plain updates falls as 1 / iterations.
    masses, cost = np.full((1, 3), 1 / 3), np.float64(COST[3:, [0, 1, 4]])
    output = sinkhorn(masses, masses, cost, epsilon)
    assert output.converged[0]
    solution = reference.newton(np.log(masses[0]), np.log(masses[0]), cost, epsilon)
    # The default threshold 1e-4 times the range of the costs.
    np.testing.assert_allclose(output.regularized_cost[0], solution.regularized_cost, rtol=0, atol=1e-4)
    # The plan of an assignment has the entropy log 3.
    exact = ot.emd2(masses[0], masses[0], cost)
    assert exact - 1e-4 <= output.transport_cost[0] <= exact + epsilon * np.log(3) + 1e-4


def test_a_looser_threshold_takes_fewer_iterations():
    loose, tight = (
        sinkhorn_from_logits(A_LOGITS, B_LOGITS, COST, 0.02, threshold=threshold) for threshold in (1e-1, 1e-5)
    )
    assert np.all(loose.n_iters <= tight.n_iters) and np.any(loose.n_iters < tight.n_iters)
    assert np.all(tight.marginal_error <= 1e-5)


def test_one_broken_problem_does_not_stop_the_others():
    a_logits = A_LOGITS.copy()
    a_logits[1] = np.nan
    output = sinkhorn_from_logits(a_logits, B_LOGITS, COST, 0.02)
    np.testing.assert_array_equal(output.converged, [True, False, True, True])
    others = [0, 2, 3]
    expected = sinkhorn_from_logits(A_LOGITS, B_LOGITS, COST, 0.02)
    # Both stop within the default threshold 1e-4.
    np.testing.assert_allclose(
        output.regularized_cost.numpy()[others], expected.regularized_cost.numpy()[others], rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_inside_a_function(jit_compile):
    @tf.function(jit_compile=jit_compile)
    def solve(a_logits, b_logits, cost, epsilon):
        with tf.GradientTape() as tape:
            tape.watch(a_logits)
            output = sinkhorn_from_logits(a_logits, b_logits, cost, epsilon)
        return output.regularized_cost, output.plan(), tape.gradient(output.regularized_cost, a_logits)

    # Epsilon is a tensor, so that the form is chosen while it runs.
    for epsilon in FORMS:
        eager, a_gradient, _ = value_and_gradients(A_LOGITS, B_LOGITS, COST, epsilon)
        value, plan, gradient = solve(*(tf.constant(x) for x in (A_LOGITS, B_LOGITS, COST, np.float32(epsilon))))
        # The same updates; the compiler may fuse float32 sums, which the plan divides by epsilon.
        np.testing.assert_allclose(value, eager.regularized_cost, rtol=0, atol=1e-5)
        np.testing.assert_allclose(plan, eager.plan(), rtol=0, atol=1e-3)
        np.testing.assert_allclose(gradient, a_gradient, rtol=0, atol=1e-4)


@pytest.mark.parametrize("sizes", [(6, 5), (None, None)])
def test_inside_a_function_of_unknown_shape(sizes):
    n, m = sizes

    @tf.function(input_signature=[tf.TensorSpec([None, n]), tf.TensorSpec([None, m]), tf.TensorSpec([n, m])])
    def solve(a_logits, b_logits, cost):
        return sinkhorn_from_logits(a_logits, b_logits, cost, 0.1).regularized_cost

    for batch in (1, 4):
        expected = sinkhorn_from_logits(A_LOGITS[:batch], B_LOGITS[:batch], COST, 0.1).regularized_cost
        # The compiler may fuse float32 sums.
        np.testing.assert_allclose(solve(A_LOGITS[:batch], B_LOGITS[:batch], COST), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision_is_solved_in_float32(dtype):
    a_logits, b_logits = tf.cast(A_LOGITS, dtype), tf.cast(B_LOGITS, dtype)
    with tf.GradientTape() as tape:
        tape.watch(a_logits)
        output = sinkhorn_from_logits(a_logits, b_logits, tf.cast(COST, dtype), 0.1)
    assert output.f.dtype == output.regularized_cost.dtype == output.plan().dtype == tf.float32
    assert tape.gradient(output.regularized_cost, a_logits).dtype == dtype
    rounded = (tf.cast(x, tf.float32) for x in (a_logits, b_logits, tf.cast(COST, dtype)))
    np.testing.assert_array_equal(output.regularized_cost, sinkhorn_from_logits(*rounded, 0.1).regularized_cost)


def test_marginals_and_logits_give_the_same():
    a, b = tf.nn.softmax(A_LOGITS), tf.nn.softmax(B_LOGITS)
    by_mass, by_logits = sinkhorn(a, b, COST, 0.1), sinkhorn_from_logits(A_LOGITS, B_LOGITS, COST, 0.1)
    # log(softmax) against log_softmax in float32.
    np.testing.assert_allclose(by_mass.regularized_cost, by_logits.regularized_cost, rtol=0, atol=1e-5)
    np.testing.assert_allclose(by_mass.plan(), by_logits.plan(), rtol=0, atol=1e-5)


def test_lists_are_taken():
    output = sinkhorn([[0.5, 0.5]], [[0.25, 0.75]], [[0, 1], [1, 0]], 0.1)
    assert output.plan().shape == (1, 2, 2)
    # Default threshold 1e-4; the exact cost is 0.25 and the entropy of 4 cells adds to it.
    assert 0.25 - 1e-4 <= output.transport_cost[0] <= 0.25 + 0.1 * np.log(4)


@pytest.mark.parametrize(
    ("a_shape", "b_shape", "cost_shape", "message"),
    [
        ((4,), (4, 5), (6, 5), r"must have shapes \[B, n\], \[B, m\]"),
        ((4, 6), (4, 5, 1), (6, 5), r"must have shapes \[B, n\], \[B, m\]"),
        ((4, 6), (3, 5), (6, 5), r"a\.shape=\(4, 6\), b\.shape=\(3, 5\)"),
        ((4, 6), (4, 5), (5, 6), r"`cost_matrix` must have shape \[n, m\] = \[6, 5\]"),
        ((4, 6), (4, 5), (4, 6, 5), r"Received: cost_matrix\.shape=\(4, 6, 5\)"),
        ((4, 6), (4, 5), (6,), r"`cost_matrix` must have shape"),
    ],
)
@pytest.mark.parametrize("solve", [sinkhorn, sinkhorn_from_logits])
def test_shapes_that_do_not_fit(solve, a_shape, b_shape, cost_shape, message):
    with pytest.raises(ValueError, match=message):
        solve(tf.ones(a_shape), tf.ones(b_shape), tf.ones(cost_shape))


@pytest.mark.parametrize("solve", [sinkhorn, sinkhorn_from_logits])
@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 0.0},
        {"epsilon": -1.0},
        {"epsilon": np.nan},
        {"tau_a": 0.0},
        {"tau_b": -1.0},
        {"threshold": 0.0},
        {"max_iterations": 0},
    ],
)
def test_numbers_that_are_not_positive(solve, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}` must be greater than 0. Received: "):
        solve(A_LOGITS, B_LOGITS, COST, **options)


def test_two_dtypes():
    with pytest.raises(ValueError, match="must have one dtype. Received: float32 and float64"):
        sinkhorn(A_LOGITS, np.float64(B_LOGITS), COST)


TWO_REPLICAS = """
import numpy as np, tensorflow as tf
from jtln_tf.ot import sinkhorn_from_logits
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rng = np.random.default_rng(0)
a, b, cost = (rng.normal(size=s).astype("f") for s in ((4, 6), (4, 5), (6, 5)))

def solve(a, b):
    with tf.GradientTape() as tape:
        tape.watch(a)
        value = sinkhorn_from_logits(a, b, cost, 0.1, threshold=1e-6).regularized_cost
    return value, tape.gradient(value, a)

@tf.function
def step(batch):
    return strategy.run(solve, args=batch)

dataset = strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensor_slices((a, b)).batch(4))
results = step(next(iter(dataset)))
values, gradients = (tf.concat(strategy.experimental_local_results(part), 0) for part in results)
assert strategy.num_replicas_in_sync == 2
for got, expected in zip((values, gradients), solve(tf.constant(a), tf.constant(b))):
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
"""


@pytest.mark.slow
def test_two_replicas_solve_what_one_does():
    done = subprocess.run([sys.executable, "-c", TWO_REPLICAS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
