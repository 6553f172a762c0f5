"""The way to the potentials: scaling first, then Newton steps for what is left, in the arithmetic it takes. Floor 1."""

import tensorflow as tf

from jtln_tf.ot import newton, scaling
from jtln_tf.ot.problem import by_form

# Iterations given to scaling: this many, plus one for each class of the smaller side. Newton steps then solve what is
# left, problem by problem; one step costs about as much as m / 2 iterations.
_SCALING_ITERATIONS = 60


def find_potentials(problem, log_u, log_v, threshold, max_iterations):
    """Solves problems for the potentials of their smaller side, from `log_u` [B, n] or `log_v` [B, m] on.

    Returns `(log_u, log_v, marginal_error, n_iters)`, which no gradient flows through.
    """
    # So that no tape records the loops: XLA cannot compile one that is recorded.
    problem = problem.detached()
    if problem.has_fewer_rows:
        start = tf.stop_gradient(log_u)
        log_v, log_u, *rest = _solve_for_columns(problem.transposed(), start, threshold, max_iterations)
    else:
        log_u, log_v, *rest = _solve_for_columns(problem, tf.stop_gradient(log_v), threshold, max_iterations)
    # Unused results get gradients of zero inside `tf.cond`: these too must not reach the loops.
    return tuple(tf.stop_gradient(x) for x in (log_u, log_v, *rest))


def _solve_for_columns(problem, log_v, threshold, max_iterations):
    limit = tf.constant(threshold, problem.dtype)
    budget = tf.minimum(max_iterations, _SCALING_ITERATIONS + tf.shape(log_v)[1])

    def with_kernel(dtype):
        scaled = problem.astype(dtype)
        start = tf.cast(log_v, dtype)
        log_u, found, error, n_iters = scaling.iterate(scaled, start, tf.constant(threshold, dtype), budget)
        log_u, found, error = (tf.cast(x, problem.dtype) for x in (log_u, found, error))
        return tf.cond(
            tf.reduce_all(error <= threshold) | (budget >= max_iterations),
            lambda: (log_u, found, error, n_iters),
            lambda: finish(log_u, found, error, n_iters),
        )

    def finish(log_u, found, error, n_iters):
        found = tf.where(tf.math.is_finite(found), found, log_v)
        log_u, found, error, steps = newton.iterate(problem, log_u, found, error, limit, max_iterations - budget)
        return log_u, found, error, n_iters + steps

    def in_log_domain():
        unknown = tf.fill(tf.shape(log_v)[:1], problem.dtype.max)
        return newton.iterate(problem, problem.log_a, log_v, unknown, limit, tf.constant(max_iterations))

    return by_form(problem, with_kernel, in_log_domain, threshold)
