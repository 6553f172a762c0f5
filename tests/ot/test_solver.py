"""The solution against a plain float64 reference and POT, its invariances, and every way to call the solver."""

import numpy as np
import ot
import pytest
import tensorflow as tf

from jtln_tf.ot import sinkhorn, sinkhorn_from_logits
from tests import reference

# The costs have range 1, so that the seams of the three forms are at epsilon = 1 / 60 and 1 / 600.
EPSILONS = (10.0, 1.0, 0.1, 0.02, 1 / 59.9, 1 / 60.1, 0.005, 1 / 599.0, 1 / 601.0, 0.001)
# One epsilon for each form: the kernel in float32, in float64, and log-sum-exp.
FORMS = (0.1, 0.005, 0.001)
FLOAT32_ROUNDING = 2.0**-24
TIGHT = {"threshold": 1e-10, "max_iterations": 100_000}


def draw_problems():
    """Logits of two heads for 4 problems, the first two flat and peaked, and a cost matrix of range 1."""
    rng = np.random.default_rng(0)
    spread = np.array([0.1, 8.0, 2.0, 2.0])[:, None]
    cost = rng.uniform(size=(6, 5))
    cost = (cost - cost.min()) / np.ptp(cost)
    return [x.astype("float32") for x in (*(spread * rng.normal(size=(4, size)) for size in (6, 5)), cost)]


A_LOGITS, B_LOGITS, COST = draw_problems()
INPUTS64 = [np.float64(x) for x in (A_LOGITS, B_LOGITS, COST)]


def value_and_gradients(a_logits, b_logits, cost, epsilon, **options):
    a_logits, b_logits = tf.constant(a_logits), tf.constant(b_logits)
    with tf.GradientTape() as tape:
        tape.watch([a_logits, b_logits])
        output = sinkhorn_from_logits(a_logits, b_logits, cost, epsilon, **options)
        loss = tf.reduce_sum(output.regularized_cost)
    return output, *(gradient.numpy() for gradient in tape.gradient(loss, [a_logits, b_logits]))


def rounding_of_the_plan(output, epsilon):
    """Relative error of the plan of potentials and costs that were rounded to float32 before a division by epsilon."""
    largest = max(np.abs(x).max() for x in (output.f, output.g, output.cost_matrix))
    # Three numbers, and the rounding of their sums.
    return FLOAT32_ROUNDING * (6 * largest / epsilon + 10)


def assert_equal_up_to_a_constant(f, g, expected_f, expected_g, atol):
    shift = np.mean(f - expected_f, axis=-1, keepdims=True)
    np.testing.assert_allclose(f - shift, expected_f, rtol=0, atol=atol)
    np.testing.assert_allclose(g + shift, expected_g, rtol=0, atol=atol)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_float64_agrees_with_the_reference_to_many_digits(epsilon):
    output = sinkhorn_from_logits(*INPUTS64, epsilon, **TIGHT)
    assert output.f.dtype == tf.float64 and output.converged.numpy().all()
    log_masses = zip(*(reference.log_softmax(x) for x in (A_LOGITS, B_LOGITS)), strict=True)
    for index, (log_a, log_b) in enumerate(log_masses):
        solution = reference.sinkhorn(log_a, log_b, COST, epsilon)
        np.testing.assert_allclose(output.regularized_cost[index], solution.regularized_cost, rtol=1e-9, atol=1e-9)
        # The threshold 1e-10 times the conditioning.
        np.testing.assert_allclose(output.transport_cost[index], solution.transport_cost, rtol=0, atol=1e-7)
        np.testing.assert_allclose(output.plan()[index], solution.plan, rtol=0, atol=1e-7)
        potentials = (output.f[index], output.g[index], solution.f, solution.g)
        assert_equal_up_to_a_constant(*potentials, atol=1e-6 * max(1, epsilon))


@pytest.mark.parametrize("epsilon", [0.1, 0.005])
def test_agrees_with_pot(epsilon):
    a, b, cost = reference.softmax(A_LOGITS), reference.softmax(B_LOGITS), INPUTS64[2]
    output = sinkhorn(a, b, cost, epsilon, **TIGHT)
    for index in range(len(a)):
        plan, log = ot.sinkhorn(
            a[index], b[index], cost, epsilon, method="sinkhorn_log", log=True, stopThr=1e-11, numItermax=100_000
        )
        np.testing.assert_allclose(output.plan()[index], plan, rtol=0, atol=1e-7)
        potentials = (output.f[index], output.g[index], epsilon * log["log_u"], epsilon * log["log_v"])
        assert_equal_up_to_a_constant(*potentials, atol=1e-6)


def test_small_epsilon_approaches_exact_transport():
    a, b = reference.softmax(A_LOGITS), reference.softmax(B_LOGITS)
    exact = np.array([ot.emd2(x, y, INPUTS64[2]) for x, y in zip(a, b, strict=True)])
    for epsilon in (0.02, 0.005, 0.001):
        output = sinkhorn_from_logits(*INPUTS64, epsilon, **TIGHT)
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
    output = sinkhorn(a, b, COST, epsilon, threshold=1e-5)
    masses = (x / x.sum(1, keepdims=True) for x in (np.float64(a), np.float64(b)))
    solutions = [reference.sinkhorn_of_masses(x, y, COST, epsilon) for x, y in zip(*masses, strict=True)]
    # The plan is forced (a b^T): what is left is the threshold 1e-5 and float32.
    rounding = 1e-5 + rounding_of_the_plan(output, epsilon)
    np.testing.assert_allclose(output.plan(), [s.plan for s in solutions], rtol=0, atol=rounding)
    np.testing.assert_allclose(output.transport_cost, [s.transport_cost for s in solutions], rtol=0, atol=rounding)
    np.testing.assert_allclose(output.regularized_cost, [s.regularized_cost for s in solutions], rtol=0, atol=2e-5)


@pytest.mark.parametrize("epsilon", FORMS)
def test_logits_of_ten_thousand(epsilon):
    rng = np.random.default_rng(1)
    a_logits, b_logits = (rng.choice([-1e4, 1e4, 0.0], (4, size)).astype("float32") for size in (6, 5))
    output, *gradients = value_and_gradients(a_logits, b_logits, COST, epsilon)
    for tensor in (output.f, output.g, output.transport_cost, *gradients):
        assert np.isfinite(tensor).all()
    assert output.converged.numpy().all()
    masses = zip(reference.softmax(a_logits), reference.softmax(b_logits), strict=True)
    # The masses that are left are equal.
    expected = [reference.sinkhorn_of_masses(x, y, COST, epsilon, reference.newton).regularized_cost for x, y in masses]
    # The default threshold 1e-4 times the range of the costs; float32 of terms of the size of epsilon.
    np.testing.assert_allclose(output.regularized_cost, expected, rtol=0, atol=2e-4 + 1e-6 * epsilon)


@pytest.mark.parametrize("epsilon", FORMS)
def test_constant_cost_couples_independently(epsilon):
    output, *gradients = value_and_gradients(A_LOGITS, B_LOGITS, np.full_like(COST, 2.5), epsilon)
    a, b = reference.softmax(A_LOGITS), reference.softmax(B_LOGITS)
    rounding = rounding_of_the_plan(output, epsilon)
    np.testing.assert_allclose(output.plan(), a[:, :, None] * b[:, None, :], rtol=rounding, atol=1e-6)
    np.testing.assert_allclose(output.transport_cost, np.full(4, 2.5), rtol=rounding)
    # The start is the solution, and the first update finds it so.
    np.testing.assert_array_equal(output.n_iters, 1)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("epsilon", FORMS)
def test_batch_is_a_loop_of_singles(epsilon):
    batch, *batch_gradients = value_and_gradients(*INPUTS64, epsilon, **TIGHT)
    for index in range(len(A_LOGITS)):
        rows = slice(index, index + 1)
        single, *gradients = value_and_gradients(INPUTS64[0][rows], INPUTS64[1][rows], INPUTS64[2], epsilon, **TIGHT)
        # A single stops by its own error: they agree to the threshold times the conditioning.
        np.testing.assert_allclose(batch.regularized_cost[rows], single.regularized_cost, rtol=0, atol=1e-8)
        np.testing.assert_allclose(batch.plan()[rows], single.plan(), rtol=0, atol=1e-7)
        for of_batch, of_single in zip(batch_gradients, gradients, strict=True):
            np.testing.assert_allclose(of_batch[rows], of_single, rtol=0, atol=1e-7)


@pytest.mark.parametrize("epsilon", FORMS)
def test_transpose_swaps_the_potentials(epsilon):
    a_logits, b_logits, cost = INPUTS64
    one = sinkhorn_from_logits(a_logits, b_logits, cost, epsilon, **TIGHT)
    other = sinkhorn_from_logits(b_logits, a_logits, cost.T, epsilon, **TIGHT)
    np.testing.assert_allclose(one.regularized_cost, other.regularized_cost, rtol=0, atol=1e-8)
    # Threshold times conditioning.
    np.testing.assert_allclose(one.plan(), np.swapaxes(other.plan(), 1, 2), rtol=0, atol=1e-7)
    assert_equal_up_to_a_constant(one.f, one.g, other.g, other.f, atol=1e-6)


@pytest.mark.parametrize("epsilon", FORMS)
def test_constants_and_scales_of_the_cost(epsilon):
    plain, *gradients = value_and_gradients(A_LOGITS, B_LOGITS, COST, epsilon)
    moved, *moved_gradients = value_and_gradients(A_LOGITS, B_LOGITS, COST - np.float32(3), epsilon)
    # COST - 3 is rounded to float32, which is divided by epsilon in the plan.
    rounding = 2 * rounding_of_the_plan(moved, epsilon)
    np.testing.assert_allclose(moved.regularized_cost, plain.regularized_cost - 3, rtol=0, atol=1e-5)
    np.testing.assert_allclose(moved.plan(), plain.plan(), rtol=0, atol=rounding)
    for gradient, moved_gradient in zip(gradients, moved_gradients, strict=True):
        np.testing.assert_allclose(moved_gradient, gradient, rtol=0, atol=1e-3)
    # A power of 2 changes no digit.
    scaled = sinkhorn_from_logits(A_LOGITS, B_LOGITS, 64 * COST, 64 * epsilon)
    np.testing.assert_allclose(scaled.regularized_cost, 64 * plain.regularized_cost, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("epsilon", (0.02, 0.005, 0.001))
def test_too_few_iterations_are_told_and_finite(epsilon):
    output, *gradients = value_and_gradients(A_LOGITS, B_LOGITS, COST, epsilon, threshold=1e-6, max_iterations=3)
    still_open = ~output.converged.numpy()
    assert still_open.any() and np.all(output.n_iters <= 3)
    np.testing.assert_array_equal(output.n_iters[still_open], 3)
    for tensor in (output.f, output.g, output.transport_cost, *gradients):
        assert np.isfinite(tensor).all()
    exact = sinkhorn_from_logits(*INPUTS64, epsilon, **TIGHT).regularized_cost
    # A dual value: never above the optimum, but for float32.
    assert np.all(output.regularized_cost <= exact.numpy() + 1e-5)


@pytest.mark.parametrize(("jit_compile", "sizes"), [(True, (6, 5)), (False, (None, None))])
def test_inside_a_function(jit_compile, sizes):
    n, m = sizes
    specs = [tf.TensorSpec(shape) for shape in ([None, n], [None, m], [n, m], [])]

    @tf.function(jit_compile=jit_compile, input_signature=specs)
    def solve(a_logits, b_logits, cost, epsilon):
        with tf.GradientTape() as tape:
            tape.watch(a_logits)
            output = sinkhorn_from_logits(a_logits, b_logits, cost, epsilon)
        return output.regularized_cost, output.plan(), tape.gradient(output.regularized_cost, a_logits)

    # Epsilon is a tensor, so that the form is chosen while it runs.
    for epsilon in FORMS:
        eager, a_gradient, _ = value_and_gradients(A_LOGITS, B_LOGITS, COST, epsilon)
        value, plan, gradient = solve(A_LOGITS, B_LOGITS, COST, epsilon)
        # The same updates; the compiler may fuse float32 sums, which the plan divides by epsilon.
        np.testing.assert_allclose(value, eager.regularized_cost, rtol=0, atol=1e-5)
        np.testing.assert_allclose(plan, eager.plan(), rtol=0, atol=1e-3)
        np.testing.assert_allclose(gradient, a_gradient, rtol=0, atol=1e-4)


def test_half_precision_is_solved_in_float32():
    inputs = [tf.cast(x, tf.bfloat16) for x in (A_LOGITS, B_LOGITS, COST)]
    output, a_gradient, _ = value_and_gradients(*inputs, 0.1)
    assert output.f.dtype == output.regularized_cost.dtype == output.plan().dtype == tf.float32
    assert a_gradient.dtype == tf.bfloat16
    rounded = sinkhorn_from_logits(*(tf.cast(x, tf.float32) for x in inputs), 0.1)
    np.testing.assert_array_equal(output.regularized_cost, rounded.regularized_cost)


def test_marginals_and_logits_and_lists_give_the_same():
    a, b = tf.nn.softmax(INPUTS64[0]), tf.nn.softmax(INPUTS64[1])
    by_logits = sinkhorn_from_logits(*INPUTS64, 0.1, threshold=1e-10)
    by_mass = sinkhorn(a, b, INPUTS64[2].tolist(), 0.1, threshold=1e-10)
    np.testing.assert_allclose(by_mass.regularized_cost, by_logits.regularized_cost, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((4,), (4, 5), (6, 5)), {}, r"must have shapes \[B, n\], \[B, m\]"),
        (((4, 6), (3, 5), (6, 5)), {}, r"a\.shape=\(4, 6\), b\.shape=\(3, 5\)"),
        (((4, 6), (4, 5), (5, 6)), {}, r"`cost_matrix` must have shape \[n, m\] = \[6, 5\]"),
        (((0, 6), (0, 5), (6, 5)), {}, r"at least one problem. Received: a.shape=\(0, 6\)"),
        (((4, 6), (4, 5), (6, 5)), {"epsilon": 0.0}, "`epsilon` must be greater than 0. Received: "),
        (((4, 6), (4, 5), (6, 5)), {"tau_b": np.nan}, "`tau_b` must be greater than 0. Received: "),
        (((4, 6), (4, 5), (6, 5)), {"max_iterations": 0}, "`max_iterations` must be greater than 0. Received: "),
        (((4, 6), (4, 5), (6, 5)), {"threshold": tf.constant(1.0)}, "`threshold` must be a Python number"),
        (
            ((4, 6), (4, 5), (6, 5)),
            {"initial_potentials": (np.ones((4, 6), "f"),) * 2},
            r"`initial_potentials` must have shapes .* \[B, m\] is \(4, 5\)",
        ),
    ],
)
@pytest.mark.parametrize("solve", [sinkhorn, sinkhorn_from_logits])
def test_arguments_that_do_not_fit(solve, shapes, options, message):
    with pytest.raises(ValueError, match=message):
        solve(*(tf.ones(shape) for shape in shapes), **options)
