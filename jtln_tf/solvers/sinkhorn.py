"""Entropic optimal transport of many pairs of marginals under one cost matrix. Floor 1.

Each problem b has the plan `P = exp((f_i + g_j - C_ij) / epsilon)`. Because the cost is shared, an update of all
problems is one matrix product [B, m] x [m, n], and no [B, n, m] tensor exists unless the plan is asked for.
"""

import dataclasses
import functools

import tensorflow as tf

# The kernel exp(-C / epsilon) is used in a type whose smallest normal number lies far below exp(-range / epsilon):
# float32 ends near exp(-87), float64 near exp(-708). The rest of the exponent is room for the sums.
_LARGEST_RATIO = {tf.float32: 60.0, tf.float64: 600.0}
# Updates between two looks at the marginal error, which costs a product of its own.
_CHECK_EVERY = 10


@dataclasses.dataclass(frozen=True, eq=False)
class SinkhornOutput:
    """Solution of B problems.

    Attributes:
        f: Row potentials [B, n], in units of cost, held fixed. Defined up to `(f + c, g - c)`.
        g: Column potentials [B, m].
        regularized_cost: `<P, C> - epsilon H(P)` with `H(P) = -sum P log P`, [B]; may be negative. Its gradient in the
            marginals is `(f, g)`.
        transport_cost: `<P, C>`, [B]; carries no gradient.
        marginal_error: L1 distance between the row sums of the plan and `a`, [B]. The column sums equal `b`.
        n_iters: Updates of both potentials that were made, scalar.
        converged: Whether `marginal_error` is at most the threshold, [B].
        cost_matrix: Costs [n, m].
        epsilon: Entropic weight, in units of cost.
    """

    f: tf.Tensor
    g: tf.Tensor
    regularized_cost: tf.Tensor
    transport_cost: tf.Tensor
    marginal_error: tf.Tensor
    n_iters: tf.Tensor
    converged: tf.Tensor
    cost_matrix: tf.Tensor
    epsilon: float

    def plan(self):
        """Returns the couplings [B, n, m]."""
        return tf.exp((self.f[:, :, None] + self.g[:, None, :] - self.cost_matrix) / self.epsilon)


def sinkhorn(a, b, cost_matrix, epsilon=0.05, *, threshold=1e-4, max_iterations=2000):
    """Solves B entropic optimal transport problems that share one cost matrix.

    `min_P <P, C> - epsilon H(P)` over `P >= 0` with row sums `a` and column sums `b`. Entries of zero mass are treated
    as the smallest positive number of the type, so that potentials and gradients stay finite.

    Args:
        a: Row marginals [B, n], each row sums to 1.
        b: Column marginals [B, m], each row sums to 1.
        cost_matrix: Costs [n, m], finite.
        epsilon: Entropic weight, a positive Python number in units of cost.
        threshold: L1 marginal error at which the updates stop (all problems must reach it).
        max_iterations: Updates after which they stop in any case; rounded up to a multiple of 10.

    Returns:
        `SinkhornOutput`. Gradients flow from `regularized_cost` to `a` and `b`, not to the cost.

    Raises:
        ValueError: If the shapes do not fit or a number is not positive.

    Reference:
        Cuturi, 2013, arXiv:1306.0895, with epsilon = 1 / lambda; Peyre and Cuturi, 2019, arXiv:1803.00567, section 4.4.
    """
    a, b = _as_float(a), _as_float(b)
    smallest = a.dtype.as_numpy_dtype(_smallest_normal(a.dtype))
    log_a, log_b = (tf.math.log(tf.maximum(mass, smallest)) for mass in (a, b))
    return _solve(a, b, log_a, log_b, cost_matrix, epsilon, threshold, max_iterations)


def sinkhorn_from_logits(a_logits, b_logits, cost_matrix, epsilon=0.05, *, threshold=1e-4, max_iterations=2000):
    """Like `sinkhorn` for `a = softmax(a_logits)`, `b = softmax(b_logits)`; also where the softmax underflows.

    Args:
        a_logits: [B, n].
        b_logits: [B, m].
        cost_matrix: See `sinkhorn`.
        epsilon: See `sinkhorn`.
        threshold: See `sinkhorn`.
        max_iterations: See `sinkhorn`.

    Returns:
        `SinkhornOutput`; gradients flow from `regularized_cost` to the logits.

    Raises:
        ValueError: See `sinkhorn`.
    """
    log_a, log_b = (tf.nn.log_softmax(_as_float(logits)) for logits in (a_logits, b_logits))
    return _solve(tf.exp(log_a), tf.exp(log_b), log_a, log_b, cost_matrix, epsilon, threshold, max_iterations)


def _solve(a, b, log_a, log_b, cost_matrix, epsilon, threshold, max_iterations):
    cost_matrix = tf.cast(cost_matrix, a.dtype)
    _check_arguments(a, b, cost_matrix, epsilon, threshold, max_iterations)

    @tf.custom_gradient
    def solve(a, b):
        f, g, transport_cost, marginal_error, n_iters = _find_potentials(
            a, log_a, log_b, cost_matrix, epsilon, threshold, max_iterations
        )
        regularized_cost = tf.reduce_sum(f * a, axis=1) + tf.reduce_sum(g * b, axis=1)

        def gradient(upstream, *_):
            # By the envelope theorem d cost / d a = f, d cost / d b = g: nothing is unrolled.
            return upstream[:, None] * f, upstream[:, None] * g

        return (regularized_cost, f, g, transport_cost, marginal_error, n_iters), gradient

    regularized_cost, f, g, transport_cost, marginal_error, n_iters = solve(a, b)
    return SinkhornOutput(
        f=f,
        g=g,
        regularized_cost=regularized_cost,
        transport_cost=transport_cost,
        marginal_error=marginal_error,
        n_iters=n_iters,
        converged=marginal_error <= threshold,
        cost_matrix=cost_matrix,
        epsilon=epsilon,
    )


def _find_potentials(a, log_a, log_b, cost_matrix, epsilon, threshold, max_iterations):
    """Chooses the form by the range of the kernel; returns f, g, <P, C>, the marginal error and the updates made."""
    # A tape that watches them would record the updates, and XLA cannot compile a loop that is recorded.
    arguments = [tf.stop_gradient(x) for x in (a, log_a, log_b, cost_matrix)]
    arguments += [tf.constant(epsilon, a.dtype), tf.constant(threshold, a.dtype), tf.constant(max_iterations)]
    ratio = (tf.reduce_max(cost_matrix) - tf.reduce_min(cost_matrix)) / epsilon
    return tf.cond(
        ratio <= _LARGEST_RATIO[a.dtype],
        lambda: _iterate_kernel(*arguments),
        lambda: tf.cond(
            ratio <= _LARGEST_RATIO[tf.float64],
            lambda: _iterate_in_float64(*arguments),
            lambda: _iterate_log_domain(*arguments),
        ),
    )


@tf.function(jit_compile=True, reduce_retracing=True)
def _iterate_kernel(a, log_a, log_b, cost_matrix, epsilon, threshold, max_iterations):
    """Runs the updates with the kernel exp(-C / epsilon), the potentials kept as logarithms.

    `log(K v)` is taken as `max + log(K exp(log v - max))`, so that no scaling vector can overflow.
    """
    lowest = tf.reduce_min(cost_matrix)
    scaled = (cost_matrix - lowest) / epsilon
    kernel = tf.exp(-scaled)

    def log_product(log_weights, matrix, transpose):
        peak = tf.reduce_max(log_weights, axis=1, keepdims=True)
        return peak + tf.math.log(tf.linalg.matmul(tf.exp(log_weights - peak), matrix, transpose_b=transpose))

    row_sums = functools.partial(log_product, matrix=kernel, transpose=True)
    column_sums = functools.partial(log_product, matrix=kernel, transpose=False)
    log_u, log_v, error, n_iters = _loop(a, log_a, log_b, row_sums, column_sums, threshold, max_iterations)
    # A row whose every cost is the lowest has the log product -inf, which exp turns into the right 0.
    excess = tf.reduce_sum(tf.exp(log_u + log_product(log_v, kernel * scaled, transpose=True)), axis=1)
    mass = tf.reduce_sum(tf.exp(log_b), axis=1)
    return log_u * epsilon, log_v * epsilon + lowest, excess * epsilon + lowest * mass, error, n_iters


def _iterate_in_float64(a, log_a, log_b, cost_matrix, epsilon, threshold, max_iterations):
    in_float64 = [tf.cast(x, tf.float64) for x in (a, log_a, log_b, cost_matrix, epsilon, threshold)]
    *floats, n_iters = _iterate_kernel(*in_float64, max_iterations)
    return (*(tf.cast(x, a.dtype) for x in floats), n_iters)


@tf.function(jit_compile=True, reduce_retracing=True)
def _iterate_log_domain(a, log_a, log_b, cost_matrix, epsilon, threshold, max_iterations):
    """Runs the updates by log-sum-exp over [B, n, m], in float64: slow, and right for any epsilon."""
    dtype = a.dtype
    a, log_a, log_b, epsilon = (tf.cast(x, tf.float64) for x in (a, log_a, log_b, epsilon))
    cost_matrix, threshold = tf.cast(cost_matrix, tf.float64), tf.cast(threshold, tf.float64)
    scaled = cost_matrix / epsilon

    def row_sums(log_v):
        return tf.reduce_logsumexp(log_v[:, None, :] - scaled, axis=2)

    def column_sums(log_u):
        return tf.reduce_logsumexp(log_u[:, :, None] - scaled, axis=1)

    log_u, log_v, error, n_iters = _loop(a, log_a, log_b, row_sums, column_sums, threshold, max_iterations)
    plan = tf.exp(log_u[:, :, None] + log_v[:, None, :] - scaled)
    transport_cost = tf.reduce_sum(plan * cost_matrix, axis=[1, 2])
    return (*(tf.cast(x, dtype) for x in (log_u * epsilon, log_v * epsilon, transport_cost, error)), n_iters)


def _loop(a, log_a, log_b, row_sums, column_sums, threshold, max_iterations):
    """Alternates the two updates until every row marginal is within the threshold; both sums are logarithms."""

    def update(log_u, log_v, error, n_iters):
        for _ in range(_CHECK_EVERY):
            log_u = log_a - row_sums(log_v)
            log_v = log_b - column_sums(log_u)
        error = tf.reduce_sum(tf.abs(tf.exp(log_u + row_sums(log_v)) - a), axis=1)
        return log_u, log_v, error, n_iters + _CHECK_EVERY

    def goes_on(log_u, log_v, error, n_iters):
        del log_u, log_v
        return (n_iters < max_iterations) & tf.reduce_any(error > threshold)

    start = (tf.zeros_like(log_a), tf.zeros_like(log_b), tf.fill(tf.shape(a)[:1], threshold * 2), tf.constant(0))
    return tf.while_loop(goes_on, update, start)


def _as_float(tensor):
    tensor = tf.convert_to_tensor(tensor)
    # Half precision has neither the range nor the digits for the updates.
    return tensor if tensor.dtype in (tf.float32, tf.float64) else tf.cast(tensor, tf.float32)


def _smallest_normal(dtype):
    return {tf.float32: 1.1754944e-38, tf.float64: 2.2250738585072014e-308}[dtype]


def _check_arguments(a, b, cost_matrix, epsilon, threshold, max_iterations):
    if a.shape.rank != 2 or b.shape.rank != 2 or not a.shape[:1].is_compatible_with(b.shape[:1]):
        raise ValueError(f"`a`, `b` must have shapes [B, n], [B, m]. Received: a.shape={a.shape}, b.shape={b.shape}.")
    if a.dtype != b.dtype:
        raise ValueError(f"`a` and `b` must have one dtype. Received: {a.dtype.name} and {b.dtype.name}.")
    expected = [a.shape[1], b.shape[1]]
    if not cost_matrix.shape.is_compatible_with(expected):
        raise ValueError(
            f"`cost_matrix` must have shape [n, m] = {expected}. Received: cost_matrix.shape={cost_matrix.shape}."
        )
    for name, value in (("epsilon", epsilon), ("threshold", threshold), ("max_iterations", max_iterations)):
        if not value > 0:
            raise ValueError(f"`{name}` must be greater than 0. Received: {value}.")
