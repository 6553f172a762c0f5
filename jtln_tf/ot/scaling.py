"""Sinkhorn updates with the kernel exp(-C / epsilon): two matrix products an iteration, for all problems.

Everything is kept class by problem, [n, B], so that sums over classes run along whole vectors of problems.
"""

import typing

import tensorflow as tf

from jtln_tf.ot.problem import damping, wanted_marginal
from jtln_tf.ot.products import matmul

# A secant step may move a logarithm this far beyond the plain update. If masses are almost equal, the secant is almost
# flat, and its root lies so far away that the updates would need hundreds of iterations to come back.
_LONGEST_JUMP = 4.0
# A jump that multiplies the marginal error by more is taken back.
_LARGEST_GROWTH = 2.0


class _State(typing.NamedTuple):
    """The iteration of all problems at some point."""

    log_v: tf.Tensor  # [m, B]
    safe: tf.Tensor  # [m, B]: the plain update of the last good point
    last_log_v: tf.Tensor  # [m, B]
    last_residual: tf.Tensor  # [m, B]
    last_error: tf.Tensor  # [1, B]: at the last good point
    error: tf.Tensor  # [1, B]
    n_iters: tf.Tensor  # [1, B]


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def iterate(problem, log_v, threshold, max_iterations):
    """Updates the column potentials until every problem is within the threshold.

    Plain Sinkhorn is the map `T(log_v) = log_v + r` with the residual `r = log(b / column sums)`. Each problem takes
    the secant (Anderson, depth 1) step instead, with inner products weighted by b:

        log_v + r - gamma (dlog_v + dr),   gamma = <dr, r> / <dr, dr>,   d = this point minus the last one

    and, if that made things worse, the plain update of the last good point. Solved problems stay put.

    Starts from `log_v` [B, m], in units of epsilon, and returns `(log_u, log_v, marginal_error, n_iters)`. The row
    marginals are exact; the error is that of the columns. Reference: Walker and Ni, 2011, doi:10.1137/10078356X.
    """
    update = _Update(problem)

    def goes_on(count, state):
        return (count < max_iterations) & tf.reduce_any(state.error > threshold)

    def advance(count, state):
        return count + 1, _advance(update, count, state, threshold, count + 1 >= max_iterations)

    log_v = tf.transpose(log_v)
    zeros, unknown = tf.zeros_like(log_v), tf.fill(tf.stack([1, tf.shape(log_v)[1]]), log_v.dtype.max)
    start = _State(log_v, log_v, zeros, zeros, unknown, unknown, tf.zeros_like(unknown, tf.int32))
    _, state = tf.while_loop(goes_on, advance, (tf.constant(0), start))
    log_u = update.row_potentials(state.log_v)
    return tf.transpose(log_u), tf.transpose(state.log_v), state.error[0], state.n_iters[0]


def _advance(update, count, state, threshold, is_last):
    """Returns the state after one more iteration of every problem that is not solved yet."""
    active = state.error > threshold
    residual, error = update.residual(state.log_v)
    good = error <= _LARGEST_GROWTH * state.last_error
    change, residual_change = state.log_v - state.last_log_v, residual - state.last_residual
    weighted = update.b * residual_change
    slope = tf.reduce_sum(weighted * residual_change, axis=0, keepdims=True)
    gamma = tf.math.divide_no_nan(tf.reduce_sum(weighted * residual, axis=0, keepdims=True), slope)
    jump = tf.clip_by_value(-gamma * (change + residual_change), -_LONGEST_JUMP, _LONGEST_JUMP)
    plain = state.log_v + residual
    ahead = tf.where(good, plain + jump * tf.cast(count > 0, jump.dtype), state.safe)
    # The last update is plain: it makes every column exact, even one with hardly any mass, and never adds error.
    ahead = tf.where(error <= threshold, plain, ahead)
    ahead = tf.where(is_last, tf.where(good, plain, state.safe), ahead)
    return _State(
        log_v=tf.where(active, ahead, state.log_v),
        safe=tf.where(good, plain, state.safe),
        last_log_v=state.log_v,
        last_residual=residual,
        last_error=tf.where(good, error, state.last_error),
        error=tf.where(active, error, state.error),
        n_iters=state.n_iters + tf.cast(active, tf.int32),
    )


class _Update:
    """One plain Sinkhorn update of all problems."""

    def __init__(self, problem):
        self.a, self.b, self.log_a, self.log_b = (tf.transpose(x) for x in problem[:4])
        self.problem, self.lowest = problem, tf.reduce_min(problem.cost_matrix)
        self.kernel = tf.exp((self.lowest - problem.cost_matrix) / problem.epsilon)
        self.transposed_kernel = tf.transpose(self.kernel)
        self.row_damping = damping(problem.epsilon, problem.tau_a)
        self.column_damping = damping(problem.epsilon, problem.tau_b)

    def row_sums(self, log_v):
        """Returns the sums K v, v, and the level: the true sums are `sums * exp(level)`, so nothing can overflow."""
        peak = tf.reduce_max(log_v, axis=0, keepdims=True)
        v = tf.exp(log_v - peak)
        return matmul(self.kernel, v), v, peak

    def row_potentials(self, log_v):
        """Returns `log_u` [n, B] after the row update of `log_v` [m, B]."""
        sums, _, peak = self.row_sums(log_v)
        return self.row_damping * (self.log_a - tf.math.log(sums) - peak + self.lowest / self.problem.epsilon)

    def residual(self, log_v):
        """Returns what a plain update adds to `log_v`, [m, B], and the marginal error before it, [1, B]."""
        epsilon, has_fixed_rows = self.problem.epsilon, self.problem.tau_a is None
        sums, v, peak = self.row_sums(log_v)
        if has_fixed_rows:
            level = 0.0
            u = self.a / sums
        else:
            # The mass of the plan is not given, so a constant of the costs over epsilon may weigh on it without bound.
            undamped = (1.0 - self.row_damping) * (peak - self.lowest / epsilon)
            log_u = self.row_damping * (self.log_a - tf.math.log(sums)) + undamped
            level = tf.reduce_max(log_u, axis=0, keepdims=True)
            u = tf.exp(log_u - level)
        column_sums = matmul(self.transposed_kernel, u)
        residual = self.column_damping * (self.log_b - tf.math.log(column_sums) - level + peak) - log_v
        wanted = wanted_marginal(self.b, self.log_b, log_v, epsilon, self.problem.tau_b)
        column_masses = v * column_sums if has_fixed_rows else v * column_sums * tf.exp(tf.minimum(level, 80.0))
        return residual, tf.reduce_sum(tf.abs(column_masses - wanted), axis=0, keepdims=True)
