"""The way to the potentials: scaling first, then Newton steps for what is left, in the arithmetic it takes. Floor 1."""

import tensorflow as tf

from jtln_tf.ot import newton, scaling
from jtln_tf.ot.forms import by_form

# Iterations given to scaling: this many, plus one for each class of the smaller side. Newton steps then solve what is
# left, problem by problem; one step costs about as much as m / 2 iterations.
_SCALING_ITERATIONS = 60


def find_potentials(problem, log_u, log_v, threshold, max_iterations):
    """Solves problems for the potentials of their smaller side; no gradient flows through it.

    Args:
        problem: `Problem`.
        log_u: Row potentials to start from [B, n], in units of epsilon.
        log_v: Column potentials to start from [B, m].
        threshold: L1 marginal error to reach.
        max_iterations: Iterations or Newton steps after which a problem stops in any case.

    Returns:
        `(log_u, log_v, marginal_error, n_iters)`: [B, n], [B, m], [B], [B].
    """
    problem = problem.detached()

    def solve(problem, start):
        return _solve_for_columns(problem, start, threshold, max_iterations)

    if problem.has_fewer_rows:
        log_v, log_u, *rest = _without_gradient(solve, problem.transposed(), tf.stop_gradient(log_u))
    else:
        log_u, log_v, *rest = _without_gradient(solve, problem, tf.stop_gradient(log_v))
    return log_u, log_v, *rest


def _solve_for_columns(problem, log_v, threshold, max_iterations):
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


def _without_gradient(function, *inputs):
    """Calls a function where no tape sees it: XLA cannot compile a loop that a tape records."""
    given = [x for x in tf.nest.flatten(inputs) if x is not None]

    @tf.custom_gradient
    def call(*tensors):
        left = iter(tensors)
        filled = tf.nest.map_structure(lambda x: None if x is None else next(left), inputs)
        return function(*filled), lambda *upstream: [tf.zeros_like(x) for x in tensors]

    return call(*given)
