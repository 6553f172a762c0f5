"""Sinkhorn updates with the kernel exp(-C / epsilon): two matrix products an iteration, for all problems. Floor 1.

Everything is kept class by problem, [n, B]: the sums over classes then run along whole vectors of problems.
"""

import tensorflow as tf

from jtln_tf.ot.problem import damping, wanted_marginal

# A secant step may move a logarithm this far beyond the plain update. Where masses are almost equal the secant is
# almost flat, and its root lies so far away that the updates would need hundreds of iterations to come back.
_LONGEST_JUMP = 4.0
# A jump that multiplies the marginal error by more is taken back.
_LARGEST_GROWTH = 2.0


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def iterate(problem, log_v, threshold, max_iterations):
    """Updates the column potentials until every problem is within the threshold.

    Plain Sinkhorn is the map `T(log_v) = log_v + r` with the residual `r = log(b / column sums)`. Each problem takes
    the secant (Anderson, depth 1) step instead, with inner products weighted by b:

        log_v + r - gamma (dlog_v + dr),   gamma = <dr, r> / <dr, dr>,   d = this point minus the last one

    and, where that made things worse, the plain update of the last good point. Problems that are done stay put.

    Args:
        problem: `Problem`, with at least as many rows as columns for speed.
        log_v: Column potentials to start from, in units of epsilon, [B, m].
        threshold: L1 marginal error to reach.
        max_iterations: Iterations after which it stops in any case.

    Returns:
        `(log_u, log_v, marginal_error, n_iters)`: [B, n], [B, m], [B], [B]. The row marginals are exact; the error is
        of the columns.

    Reference:
        Walker and Ni, 2011, Anderson acceleration for fixed-point iterations, doi:10.1137/10078356X.
    """
    epsilon = problem.epsilon
    a, b, log_a, log_b = (tf.transpose(x) for x in (problem.a, problem.b, problem.log_a, problem.log_b))
    lowest = tf.reduce_min(problem.cost_matrix)
    kernel = tf.exp((lowest - problem.cost_matrix) / epsilon)
    transposed_kernel = tf.transpose(kernel)
    row_damping, column_damping = damping(epsilon, problem.tau_a), damping(epsilon, problem.tau_b)

    def row_sums(log_v):
        """Returns the sums K v and the level such that the true sums are `sums * exp(level)`: nothing can overflow."""
        peak = tf.reduce_max(log_v, axis=0, keepdims=True)
        v = tf.exp(log_v - peak)
        return tf.linalg.matmul(kernel, v), v, peak

    def evaluate(log_v):
        sums, v, peak = row_sums(log_v)
        if problem.tau_a is None:
            level = 0.0
            u = a / sums
        else:
            # The mass of the plan is not given: a constant of the costs over epsilon may weigh on it without bound.
            log_u = row_damping * (log_a - tf.math.log(sums)) + (1.0 - row_damping) * (peak - lowest / epsilon)
            level = tf.reduce_max(log_u, axis=0, keepdims=True)
            u = tf.exp(log_u - level)
        column_sums = tf.linalg.matmul(transposed_kernel, u)
        residual = column_damping * (log_b - tf.math.log(column_sums) - level + peak) - log_v
        wanted = wanted_marginal(b, log_b, log_v, epsilon, problem.tau_b)
        column_masses = v * column_sums if problem.tau_a is None else v * column_sums * tf.exp(tf.minimum(level, 80.0))
        return residual, tf.reduce_sum(tf.abs(column_masses - wanted), axis=0, keepdims=True)

    def step(count, log_v, safe, last_log_v, last_residual, last_error, error, n_iters):
        active = error > threshold
        residual, new_error = evaluate(log_v)
        good = new_error <= _LARGEST_GROWTH * last_error
        change, residual_change = log_v - last_log_v, residual - last_residual
        weighted = b * residual_change
        slope = tf.reduce_sum(weighted * residual_change, axis=0, keepdims=True)
        gamma = tf.math.divide_no_nan(tf.reduce_sum(weighted * residual, axis=0, keepdims=True), slope)
        jump = tf.clip_by_value(-gamma * (change + residual_change), -_LONGEST_JUMP, _LONGEST_JUMP)
        plain = log_v + residual
        ahead = tf.where(good, plain + jump * tf.cast(count > 0, jump.dtype), safe)
        # The last update is plain: it makes every column exact, those with hardly any mass too, and never adds error.
        ahead = tf.where(new_error <= threshold, plain, ahead)
        is_last = count + 1 >= max_iterations
        ahead = tf.where(is_last, tf.where(good, plain, safe), ahead)
        return (
            count + 1,
            tf.where(active, ahead, log_v),
            tf.where(good, plain, safe),
            log_v,
            residual,
            tf.where(good, new_error, last_error),
            tf.where(active, new_error, error),
            n_iters + tf.cast(active, tf.int32),
        )

    def goes_on(count, log_v, safe, last_log_v, last_residual, last_error, error, n_iters):
        del log_v, safe, last_log_v, last_residual, last_error, n_iters
        return (count < max_iterations) & tf.reduce_any(error > threshold)

    log_v = tf.transpose(log_v)
    unknown = tf.fill(tf.stack([1, tf.shape(log_v)[1]]), log_v.dtype.max)
    zeros = tf.zeros_like(log_v)
    start = (tf.constant(0), log_v, log_v, zeros, zeros, unknown, unknown, tf.zeros_like(unknown, tf.int32))
    _, log_v, _, _, _, _, error, n_iters = tf.while_loop(goes_on, step, start)
    sums, _, peak = row_sums(log_v)
    log_u = row_damping * (log_a - tf.math.log(sums) - peak + lowest / epsilon)
    return tf.transpose(log_u), tf.transpose(log_v), error[0], n_iters[0]
