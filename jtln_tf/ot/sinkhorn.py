"""Entropic optimal transport of many pairs of marginals under one cost matrix. Floor 1.

Each problem b has the plan `P = exp((f_i + g_j - C_ij) / epsilon)`. Because the cost is shared, an update of all
problems is one matrix product [B, m] x [m, n], and no [B, n, m] tensor exists unless the plan is asked for.
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from jtln_tf.ot import newton, plans, scaling
from jtln_tf.ot.forms import by_form
from jtln_tf.ot.problem import Problem, dual_gradient, dual_term, wanted_marginal

# Iterations that scaling is given, this and as many more as the smaller side has classes. Newton steps then solve what
# is left, problem by problem; one costs as much as some m / 2 iterations.
_SCALING_ITERATIONS = 60


@dataclasses.dataclass(frozen=True, eq=False)
class SinkhornOutput:
    """Solution of B problems.

    Attributes:
        f: Row potentials [B, n], in units of cost, held fixed. Defined up to `(f + c, g - c)` where no penalty is set.
            In float32 they are rounded, which moves the plan by up to some 1e-7 of `f / epsilon`.
        g: Column potentials [B, m].
        regularized_cost: `<P, C> - epsilon H(P)` with `H(P) = -sum P log P`, [B], and the penalties where they are set;
            may be negative. Its gradient in the marginals is `(f, g)`, with a penalty `tau (1 - exp(-f / tau))`; in the
            costs it is P. There is no second gradient.
        marginal_error: L1 distance between the marginals of the plan and the wanted ones, [B]: at most this, since an
            update was made after it was measured.
        n_iters: Updates of both potentials, or Newton steps in their place, that each problem took, [B].
        converged: Whether `marginal_error` is at most the threshold, [B].
        problem: The marginals, costs and penalties, as `Problem`.
    """

    f: tf.Tensor
    g: tf.Tensor
    regularized_cost: tf.Tensor
    marginal_error: tf.Tensor
    n_iters: tf.Tensor
    converged: tf.Tensor
    problem: Problem

    @property
    def cost_matrix(self):
        """Costs [n, m]."""
        return self.problem.cost_matrix

    @property
    def transport_cost(self):
        """`<P, C>`, [B], computed when it is asked for.

        It is not stationary in the potentials as the regularized cost is, so that its gradient takes a linear system a
        problem: implicit differentiation, exact at convergence. See `plans.transport_gradients`.
        """
        return _transport_cost(self.problem, self.f, self.g)

    def plan(self):
        """Returns the couplings [B, n, m]; no gradient flows through them."""
        epsilon = tf.stop_gradient(self.problem.epsilon)
        return tf.exp((self.f[:, :, None] + self.g[:, None, :] - tf.stop_gradient(self.cost_matrix)) / epsilon)


def sinkhorn(
    a,
    b,
    cost_matrix,
    epsilon=0.05,
    *,
    tau_a=None,
    tau_b=None,
    threshold=1e-4,
    max_iterations=2000,
    initial_potentials=None,
):
    """Solves B entropic optimal transport problems that share one cost matrix.

    `min_P <P, C> - epsilon H(P)` over `P >= 0` with row sums `a` and column sums `b`. Entries of zero mass are treated
    as the smallest positive number of the type, so that potentials and gradients stay finite. With `tau_a` the row sums
    are free, at the price `tau_a KL(row sums | a)`, and H(P) is `-sum P (log P - 1) - 1`; so with `tau_b` the columns.

    The arithmetic follows the range of the costs over epsilon: float32 up to 60 (for float32 input), float64 up to 600,
    and above that float64 in the log domain, which is tested down to an epsilon of 1e-4 of the range.

    Args:
        a: Row marginals [B, n], each row sums to 1 (to any mass where a penalty is set).
        b: Column marginals [B, m], each row sums to 1 (to any mass where a penalty is set).
        cost_matrix: Costs [n, m], finite.
        epsilon: Entropic weight, positive, in units of cost: a number or a scalar tensor.
        tau_a: Weight of the penalty on the row marginals, positive, in units of cost; None keeps them fixed.
        tau_b: The same of the column marginals.
        threshold: L1 marginal error at which a problem is solved.
        max_iterations: Updates or Newton steps after which a problem is left as it is.
        initial_potentials: `(f, g)` to start from, [B, n] and [B, m], such as those of similar problems; only those of
            the smaller side are used. None starts from `epsilon log` of the marginals.

    Returns:
        `SinkhornOutput`. Gradients flow from `regularized_cost` and `transport_cost` to `a`, `b`, costs and epsilon.

    Raises:
        ValueError: If the shapes do not fit or a number is not positive.

    Reference:
        Cuturi, 2013, arXiv:1306.0895, with epsilon = 1 / lambda; Peyre and Cuturi, 2019, arXiv:1803.00567, section 4.4;
        with penalties Chizat, Peyre, Schmitzer, Vialard, 2018, arXiv:1607.05816.
    """
    a, b = _as_float(a), _as_float(b)
    smallest = np.finfo(a.dtype.as_numpy_dtype).tiny
    log_a, log_b = (tf.math.log(tf.maximum(mass, smallest)) for mass in (a, b))
    return _solve(a, b, log_a, log_b, cost_matrix, epsilon, tau_a, tau_b, threshold, max_iterations, initial_potentials)


def sinkhorn_from_logits(a_logits, b_logits, cost_matrix, epsilon=0.05, **options):
    """Like `sinkhorn` for `a = softmax(a_logits)`, `b = softmax(b_logits)`; also where the softmax underflows.

    Args:
        a_logits: [B, n].
        b_logits: [B, m].
        cost_matrix: See `sinkhorn`.
        epsilon: See `sinkhorn`.
        **options: See `sinkhorn`.

    Returns:
        `SinkhornOutput`; gradients flow to the logits too.

    Raises:
        ValueError: See `sinkhorn`.
    """
    log_a, log_b = (tf.nn.log_softmax(_as_float(logits)) for logits in (a_logits, b_logits))
    return _solve(tf.exp(log_a), tf.exp(log_b), log_a, log_b, cost_matrix, epsilon, **options)


def _solve(
    a,
    b,
    log_a,
    log_b,
    cost_matrix,
    epsilon,
    tau_a=None,
    tau_b=None,
    threshold=1e-4,
    max_iterations=2000,
    initial_potentials=None,
):
    cost_matrix = _as_type(cost_matrix, a.dtype)
    _check_arguments(a, b, cost_matrix, epsilon, tau_a, tau_b, threshold, max_iterations)
    epsilon, tau_a, tau_b = (None if x is None else _as_type(x, a.dtype) for x in (epsilon, tau_a, tau_b))
    problem = Problem(a, b, log_a, log_b, cost_matrix, epsilon, tau_a, tau_b)
    detached = problem.detached()
    start = [log_a, log_b]
    if initial_potentials is not None:
        start = [_as_type(x, a.dtype) / detached.epsilon for x in initial_potentials]
        _check_potentials(start, a, b)
        # Those of a mass of 0 may be infinite, or of a problem that was not solved.
        start = [tf.where(tf.math.is_finite(x), x, y) for x, y in zip(start, (log_a, log_b), strict=True)]
    start = [tf.stop_gradient(x) for x in start]
    solve = _no_gradient(functools.partial(_find_potentials, threshold=threshold, max_iterations=max_iterations))
    transposed = _has_fewer_rows(problem)
    if transposed:
        log_v, log_u, *rest = solve(detached.transposed(), start[0])
    else:
        log_u, log_v, *rest = solve(detached, start[1])
    marginal_error, n_iters = rest
    f, g = log_u * detached.epsilon, log_v * detached.epsilon
    return SinkhornOutput(
        f=f,
        g=g,
        regularized_cost=_regularized_cost(problem, f, g),
        marginal_error=marginal_error,
        n_iters=n_iters,
        converged=marginal_error <= threshold,
        problem=problem,
    )


def _find_potentials(problem, log_v, threshold, max_iterations):
    """Returns `log_u` [B, n], `log_v` [B, m], the marginal error [B] and the iterations [B]; solves for the columns."""
    budget = tf.minimum(max_iterations, _SCALING_ITERATIONS + tf.shape(log_v)[1])

    def with_kernel(dtype):
        scaled = problem.astype(dtype)
        limit = tf.constant(threshold, dtype)
        log_u, found, error, n_iters = scaling.iterate(scaled, tf.cast(log_v, dtype), limit, budget)
        log_u, found, error = (tf.cast(x, problem.dtype) for x in (log_u, found, error))
        return tf.cond(
            tf.reduce_all(error <= threshold) | (budget >= max_iterations),
            lambda: (log_u, found, error, n_iters),
            lambda: finish(log_u, found, error, n_iters),
        )

    def finish(log_u, found, error, n_iters):
        limit = tf.constant(threshold, problem.dtype)
        found = tf.where(tf.math.is_finite(found), found, log_v)
        log_u, found, error, steps = newton.iterate(problem, log_u, found, error, limit, max_iterations - budget)
        return log_u, found, error, n_iters + steps

    def in_log_domain():
        unknown = tf.fill(tf.shape(log_v)[:1], problem.dtype.max)
        limit = tf.constant(threshold, problem.dtype)
        return newton.iterate(problem, problem.log_a, log_v, unknown, limit, tf.constant(max_iterations))

    return by_form(problem, with_kernel, in_log_domain, threshold)


def _no_gradient(function):
    """Hides from every tape what a function does: XLA cannot compile a loop that a tape records."""

    def call(*inputs):
        given = [x for x in tf.nest.flatten(inputs) if x is not None]

        @tf.custom_gradient
        def run(*tensors):
            left = iter(tensors)
            filled = tf.nest.map_structure(lambda x: None if x is None else next(left), inputs)
            return function(*filled), lambda *upstream: [tf.zeros_like(x) for x in tensors]

        return run(*given)

    return call


def _regularized_cost(problem, f, g):
    """Dual value of the potentials, with its gradients in the masses, the costs and epsilon."""
    tau_a, tau_b = problem.tau_a, problem.tau_b

    def plan_masses(epsilon):
        # Of the side that was solved in closed form: its marginal is exactly the wanted one.
        if _has_fewer_rows(problem):
            exact = wanted_marginal(problem.b, problem.log_b, g / epsilon, epsilon, tau_b)
        else:
            exact = wanted_marginal(problem.a, problem.log_a, f / epsilon, epsilon, tau_a)
        return tf.reduce_sum(exact, axis=1)

    @tf.custom_gradient
    def cost(a, b, cost_matrix, epsilon):
        value = dual_term(a, problem.log_a, f, tau_a, axis=1) + dual_term(b, problem.log_b, g, tau_b, axis=1)
        if tau_a is not None or tau_b is not None:
            value -= epsilon * (plan_masses(epsilon) - 1.0)

        def gradient(upstream):
            # By the envelope theorem the potentials may be held fixed: nothing is unrolled.
            weights = upstream[:, None]
            log_u, log_v = f / epsilon, g / epsilon
            costs = plans.transport_costs(problem.detached(), log_u, log_v)
            return (
                weights * dual_gradient(f, tau_a),
                weights * dual_gradient(g, tau_b),
                plans.summed_plans(problem.detached(), log_u, log_v, upstream),
                tf.reduce_sum(upstream * negative_entropy(a, b, epsilon, costs)),
            )

        def negative_entropy(a, b, epsilon, costs):
            rows = wanted_marginal(a, problem.log_a, f / epsilon, epsilon, tau_a)
            columns = wanted_marginal(b, problem.log_b, g / epsilon, epsilon, tau_b)
            sums = tf.reduce_sum(f * rows, axis=1) + tf.reduce_sum(g * columns, axis=1) - costs
            free = 0.0 if tau_a is None and tau_b is None else plan_masses(epsilon) - 1.0
            return sums / epsilon - free

        return value, gradient

    return cost(problem.a, problem.b, problem.cost_matrix, problem.epsilon)


def _transport_cost(problem, f, g):
    @tf.custom_gradient
    def cost(a, b, cost_matrix, epsilon):
        detached = problem.detached()
        value = plans.transport_costs(detached, f / detached.epsilon, g / detached.epsilon)

        def gradient(upstream):
            return plans.transport_gradients(detached, g / detached.epsilon, upstream)

        return value, gradient

    return cost(problem.a, problem.b, problem.cost_matrix, problem.epsilon)


def _as_float(tensor):
    tensor = tf.convert_to_tensor(tensor)
    # Half precision has neither the range nor the digits for the updates.
    return tensor if tensor.dtype in (tf.float32, tf.float64) else tf.cast(tensor, tf.float32)


def _as_type(values, dtype):
    # `tf.cast` would round Python numbers to float32 on their way.
    return tf.cast(np.asarray(values) if isinstance(values, (int, float, list, tuple)) else values, dtype)


def _has_fewer_rows(problem):
    """Whether the rows are the smaller side, for which the problem is solved; the columns, where it is not known."""
    n, m = problem.cost_matrix.shape
    return n is not None and m is not None and n < m


def _check_arguments(a, b, cost_matrix, epsilon, tau_a, tau_b, threshold, max_iterations):
    if a.shape.rank != 2 or b.shape.rank != 2 or not a.shape[:1].is_compatible_with(b.shape[:1]):
        raise ValueError(f"`a`, `b` must have shapes [B, n], [B, m]. Received: a.shape={a.shape}, b.shape={b.shape}.")
    if a.shape[0] == 0:
        raise ValueError(f"`a`, `b` must hold at least one problem. Received: a.shape={a.shape}, b.shape={b.shape}.")
    if a.dtype != b.dtype:
        raise ValueError(f"`a` and `b` must have one dtype. Received: {a.dtype.name} and {b.dtype.name}.")
    expected = [a.shape[1], b.shape[1]]
    if not cost_matrix.shape.is_compatible_with(expected):
        raise ValueError(
            f"`cost_matrix` must have shape [n, m] = {expected}. Received: cost_matrix.shape={cost_matrix.shape}."
        )
    for name, value in {"threshold": threshold, "max_iterations": max_iterations}.items():
        if tf.is_tensor(value):
            raise ValueError(f"`{name}` must be a Python number. Received: {value}.")
    numbers = {"epsilon": epsilon, "tau_a": tau_a, "tau_b": tau_b, "threshold": threshold}
    for name, value in {**numbers, "max_iterations": max_iterations}.items():
        # A tensor has no value yet while a graph is built.
        if value is not None and not tf.is_tensor(value) and not value > 0:
            raise ValueError(f"`{name}` must be greater than 0. Received: {value}.")


def _check_potentials(potentials, a, b):
    for potential, masses, shape in zip(potentials, (a, b), ("[B, n]", "[B, m]"), strict=True):
        if not potential.shape.is_compatible_with(masses.shape):
            raise ValueError(
                f"`initial_potentials` must have shapes [B, n], [B, m]; {shape} is {masses.shape}. "
                f"Received: {potential.shape}."
            )
