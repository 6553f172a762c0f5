"""The solution against a plain float64 reference and POT, its invariances, and every way to call the solver."""

import numpy as np
import ot
import pytest
import tensorflow as tf

from jtln_tf.ot import sinkhorn, sinkhorn_from_logits
from tests import reference
from tests.ot.problems import FORMS, draw_problems, gradients

EPSILONS = (10.0, 1.0, 0.1, 0.02, 1 / 59.9, 1 / 60.1, 0.005, 1 / 599.0, 1 / 601.0, 0.001)
TIGHT = {"threshold": 1e-10, "max_iterations": 100_000}
INPUTS = A_LOGITS, B_LOGITS, COST = draw_problems()
INPUTS64 = [np.float64(x) for x in INPUTS]
A, B = reference.softmax(A_LOGITS), reference.softmax(B_LOGITS)


def value_and_gradients(a_logits, b_logits, cost, epsilon, **options):
    inputs = (a_logits, b_logits, cost, epsilon)
    output, (a_gradient, b_gradient, *_) = gradients(
        ["regularized_cost"], *inputs, solve=sinkhorn_from_logits, **options
    )
    return output, a_gradient, b_gradient


def assert_equal_up_to_a_constant(f, g, expected_f, expected_g, atol):
    shift = np.mean(f - expected_f, axis=-1, keepdims=True)
    np.testing.assert_allclose(f - shift, expected_f, rtol=0, atol=atol)
    np.testing.assert_allclose(g + shift, expected_g, rtol=0, atol=atol)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_agrees_with_the_reference(epsilon):
    output, rough = sinkhorn_from_logits(*INPUTS64, epsilon, **TIGHT), sinkhorn_from_logits(*INPUTS, epsilon)
    assert output.f.dtype == tf.float64 and output.converged.numpy().all() and rough.converged.numpy().all()
    for index, log_masses in enumerate(zip(*map(reference.log_softmax, INPUTS[:2]), strict=True)):
        solution = reference.sinkhorn(*log_masses, COST, epsilon)
        np.testing.assert_allclose(output.regularized_cost[index], solution.regularized_cost, rtol=1e-9, atol=1e-9)
        # The threshold 1e-10 times the conditioning.
        np.testing.assert_allclose(output.transport_cost[index], solution.transport_cost, rtol=0, atol=1e-7)
        np.testing.assert_allclose(output.plan()[index], solution.plan, rtol=0, atol=1e-7)
        potentials = (output.f[index], output.g[index], solution.f, solution.g)
        assert_equal_up_to_a_constant(*potentials, atol=1e-6 * max(1, epsilon))
        # The default threshold 1e-4; float32 of terms of the size of epsilon times the log masses.
        value, atol = solution.regularized_cost, 1e-4 + 4e-6 * epsilon
        np.testing.assert_allclose(rough.regularized_cost[index], value, rtol=0, atol=atol)


@pytest.mark.parametrize("epsilon", [0.1, 0.005])
def test_agrees_with_pot(epsilon):
    # More columns than rows.
    cost = INPUTS64[2].T
    output = sinkhorn(B, A, cost.tolist(), epsilon, **TIGHT)
    options = {"method": "sinkhorn_log", "log": True, "stopThr": 1e-11, "numItermax": 100_000}
    for index in range(len(A)):
        plan, log = ot.sinkhorn(B[index], A[index], cost, epsilon, **options)
        np.testing.assert_allclose(output.plan()[index], plan, rtol=0, atol=1e-7)
        potentials = (output.f[index], output.g[index], epsilon * log["log_u"], epsilon * log["log_v"])
        assert_equal_up_to_a_constant(*potentials, atol=1e-6)


@pytest.mark.parametrize("epsilon", FORMS)
def test_logits_of_ten_thousand(epsilon):
    rng = np.random.default_rng(1)
    a_logits, b_logits = (rng.choice([-1e4, 1e4, 0.0], (4, size)).astype("float32") for size in (6, 5))
    output, *logit_gradients = value_and_gradients(a_logits, b_logits, COST, epsilon)
    for tensor in (output.f, output.g, output.transport_cost, *logit_gradients):
        assert np.isfinite(tensor).all()
    assert output.converged.numpy().all()
    masses = zip(reference.softmax(a_logits), reference.softmax(b_logits), strict=True)
    expected = [reference.sinkhorn_of_masses(x, y, COST, epsilon).regularized_cost for x, y in masses]
    # The default threshold 1e-4 times the range of the costs; float32 of terms of the size of epsilon.
    np.testing.assert_allclose(output.regularized_cost, expected, rtol=0, atol=2e-4 + 1e-6 * epsilon)


@pytest.mark.parametrize("epsilon", FORMS)
def test_constants_and_scales_of_the_cost(epsilon):
    plain, *plain_gradients = value_and_gradients(*INPUTS, epsilon)
    moved, *moved_gradients = value_and_gradients(A_LOGITS, B_LOGITS, COST - np.float32(3), epsilon)
    # Costs and potentials, and their sums, are rounded to float32 before they are divided by epsilon in the plan.
    largest = max(np.abs(x).max() for x in (moved.f, moved.g, moved.problem.cost_matrix))
    rounding = 2.0**-23 * (6 * largest / epsilon + 10)
    np.testing.assert_allclose(moved.regularized_cost, plain.regularized_cost - 3, rtol=0, atol=1e-5)
    np.testing.assert_allclose(moved.plan(), plain.plan(), rtol=0, atol=rounding)
    for gradient, moved_gradient in zip(plain_gradients, moved_gradients, strict=True):
        np.testing.assert_allclose(moved_gradient, gradient, rtol=0, atol=1e-3)
    # A power of 2 changes no digit.
    scaled = sinkhorn_from_logits(A_LOGITS, B_LOGITS, 64 * COST, 64 * epsilon)
    np.testing.assert_allclose(scaled.regularized_cost, 64 * plain.regularized_cost, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("epsilon", (0.02, 0.005, 0.001))
def test_too_few_iterations_are_told_and_finite(epsilon):
    options = {"threshold": 1e-6, "max_iterations": 3}
    output, *logit_gradients = value_and_gradients(*INPUTS64, epsilon, **options)
    still_open = ~output.converged.numpy()
    assert still_open.any() and np.all(output.n_iters <= 3)
    np.testing.assert_array_equal(output.n_iters[still_open], 3)
    for tensor in (output.f, output.g, output.transport_cost, *logit_gradients):
        assert np.isfinite(tensor).all()
    # float64 over epsilon.
    assert np.all(np.abs(output.plan().numpy().sum(1) - B).sum(1) <= output.marginal_error + 1e-11)
    # A dual value: never above the optimum.
    assert np.all(output.regularized_cost <= sinkhorn_from_logits(*INPUTS64, epsilon, **TIGHT).regularized_cost + 1e-9)


@pytest.mark.parametrize(
    ("jit_compile", "n", "m"), [(False, None, None), pytest.param(True, 6, 5, marks=pytest.mark.slow)]
)
def test_inside_a_function(jit_compile, n, m):
    specs = [tf.TensorSpec(shape) for shape in ([None, n], [None, m], [n, m], [])]

    @tf.function(jit_compile=jit_compile, input_signature=specs)
    def solve(a_logits, b_logits, cost, epsilon):
        def branch():
            output = sinkhorn_from_logits(a_logits, b_logits, cost, epsilon)
            return output.regularized_cost, output.marginal_error

        with tf.GradientTape() as tape:
            tape.watch(a_logits)
            # As a step of training does, which solves nothing until the transport sets in.
            skip = (tf.zeros_like(a_logits[:, 0]),) * 2
            value, _ = branch() if jit_compile else tf.cond(epsilon < 1.0, branch, lambda: skip)
        return value, tape.gradient(value, a_logits)

    # Epsilon is a tensor, so that the form is chosen while it runs.
    for epsilon in FORMS:
        eager, a_gradient, _ = value_and_gradients(*INPUTS, epsilon)
        value, gradient = solve(*INPUTS, epsilon)
        # The same updates; the compiler may fuse float32 sums.
        np.testing.assert_allclose(value, eager.regularized_cost, rtol=0, atol=1e-5)
        np.testing.assert_allclose(gradient, a_gradient, rtol=0, atol=1e-4)


def test_gradients_through_a_branch_of_which_not_every_result_is_used():
    @tf.function
    def gradient(a_logits, b_logits, cost):
        def solve():
            output = sinkhorn_from_logits(a_logits, b_logits, cost, 0.1)
            return output.regularized_cost, output.marginal_error, output.f

        with tf.GradientTape() as tape:
            tape.watch(a_logits)
            # The branch is not known while the function is traced, as in a step of JTLN.
            results = tf.cond(tf.reduce_max(cost) > 0, solve, lambda: tf.nest.map_structure(tf.zeros_like, solve()))
        return tape.gradient(results[0], a_logits)

    np.testing.assert_allclose(gradient(*INPUTS), value_and_gradients(*INPUTS, 0.1)[1], rtol=0, atol=1e-4)


def test_half_precision_is_solved_in_float32():
    inputs = [tf.cast(x, tf.bfloat16) for x in INPUTS]
    output = sinkhorn_from_logits(*inputs, 0.1)
    assert output.f.dtype == output.plan().dtype == tf.float32
    rounded = sinkhorn_from_logits(*(tf.cast(x, tf.float32) for x in inputs), 0.1)
    np.testing.assert_array_equal(output.regularized_cost, rounded.regularized_cost)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_masses_rounded_to_half_precision_are_balanced(dtype):
    a, b = (tf.cast(x, dtype) for x in (A, B))
    output, exact = sinkhorn(a, b, COST, 0.1), sinkhorn(A, B, COST, 0.1)
    assert output.converged.numpy().all()
    np.testing.assert_allclose(output.n_iters, exact.n_iters, atol=3)
    np.testing.assert_allclose(output.regularized_cost, exact.regularized_cost, atol=0.01)
    # Masses that differ by more than rounding have no plan.
    assert not sinkhorn(1.1 * A, B, COST, 0.1, max_iterations=50).converged.numpy().any()


def test_infinite_logits_are_masses_of_zero():
    a_logits, b_logits = A_LOGITS.copy(), B_LOGITS.copy()
    a_logits[0, :3], b_logits[0, 4] = -np.inf, -np.inf
    names = ["regularized_cost", "transport_cost"]
    output, *found = gradients(names, a_logits, b_logits, COST, 0.1, solve=sinkhorn_from_logits, threshold=1e-5)
    rest = sinkhorn_from_logits(a_logits[:1, 3:], b_logits[:1, :4], COST[3:, :4], 0.1, threshold=1e-5)
    np.testing.assert_allclose(output.regularized_cost[0], rest.regularized_cost[0], atol=1e-5)
    assert output.converged.numpy().all() and all(np.isfinite(gradient).all() for gradient in sum(found, []))


def test_an_infinite_cost_forbids_a_pair():
    forbidden, dear = COST.copy(), COST.copy()
    forbidden[0, 0], dear[0, 0] = np.inf, 100.0
    names = ["regularized_cost", "transport_cost"]
    # Nearly all mass of the second problem has to take this pair.
    a, b = A[[0, 2, 3, 2]], B[[0, 2, 3, 2]]
    output, *found = gradients(names, a, b, forbidden, 0.1)
    _, *expected = gradients(names, a, b, dear, 0.1)
    assert output.converged.numpy().all() and not output.plan()[:, 0, 0].numpy().any()
    for gradient, other in zip(sum(found, []), sum(expected, []), strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-4)
    # All of a row's mass would have to go nowhere.
    forbidden[0] = np.inf
    assert not sinkhorn(A, B, forbidden, 0.1).converged.numpy().any()


@pytest.mark.parametrize("value", [-1.0, 0.0, np.nan, np.inf])
def test_an_epsilon_out_of_range_is_never_solved(value):
    with pytest.raises(ValueError, match="`epsilon` must be (greater than 0|finite)"):
        sinkhorn(A, B, COST, tf.constant(value))
    assert not tf.function(lambda epsilon: sinkhorn(A, B, COST, epsilon).converged)(tf.constant(value)).numpy().any()


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_cost_that_is_no_number_is_never_solved(value):
    cost = np.where(COST.max() == COST, np.float32(value), COST)
    with pytest.raises(ValueError, match="`cost_matrix` must hold no NaN"):
        sinkhorn(A, B, cost)
    assert not tf.function(lambda costs: sinkhorn(A, B, costs).converged)(tf.constant(cost)).numpy().any()


def test_no_problem_in_a_graph_is_refused():
    @tf.function(input_signature=[tf.TensorSpec([None, 6]), tf.TensorSpec([None, 5])])
    def solve(a, b):
        return sinkhorn(a, b, COST).regularized_cost

    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one problem"):
        solve(A[:0], B[:0])


FITTING = ((4, 6), (4, 5), (6, 5))


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((4,), (4, 5), (6, 5)), {}, r"must have shapes \[B, n\], \[B, m\]"),
        (((4, 6), (3, 5), (6, 5)), {}, r"a\.shape=\(4, 6\), b\.shape=\(3, 5\)"),
        (((4, 6), (4, 5), (5, 6)), {}, r"`cost_matrix` must have shape \[n, m\] = \[6, 5\]"),
        (((0, 6), (0, 5), (6, 5)), {}, r"at least one problem. Received: a.shape=\(0, 6\)"),
        (FITTING, {"epsilon": 0.0}, "`epsilon` must be greater than 0. Received: "),
        (FITTING, {"tau_b": np.nan}, "`tau_b` must be greater than 0. Received: "),
        (FITTING, {"max_iterations": 0}, "`max_iterations` must be greater than 0. Received: "),
        (FITTING, {"threshold": tf.constant(1.0)}, "`threshold` must be a Python number"),
        (FITTING, {"initial_potentials": (np.ones((4, 6), "f"),) * 2}, r"`initial_potentials` must .* \(4, 5\)\. Rec"),
    ],
)
def test_arguments_that_do_not_fit(shapes, options, message):
    for solve in (sinkhorn, sinkhorn_from_logits):
        with pytest.raises(ValueError, match=message):
            solve(*(tf.ones(shape) for shape in shapes), **options)
