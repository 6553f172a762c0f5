"""Damped Newton steps on the dual, for problems that scaling cannot solve, or only slowly.

In float64 and the log domain, for small epsilon; a few problems at a time, so memory stays that of the cost matrix.
"""

import typing

import tensorflow as tf

from jtln_tf.ot import blocks
from jtln_tf.ot.problem import damping, dual_term, wanted_marginal

# Levenberg-Marquardt damping: 1 halves a plain Sinkhorn step. Another start, or growth and decay twice as fast or slow,
# changes the number of steps by less than a fifth.
_FIRST_DAMPING, _GROWTH, _DECAY = 1.0, 10.0, 0.25
# With less, conjugate gradients see only rounding if a plan almost falls apart into blocks.
_LEAST_DAMPING = 1e-8
# Conjugate gradients of one Newton step. With 20 of them equal masses of 65 classes took up to fifty times the Newton
# steps; a tighter residual saved none.
_CG_STEPS, _CG_RESIDUAL = 100, 0.1
# Curvature over that of the preconditioner. Below it, M is singular up to rounding: along constants, and if the plan
# falls apart into blocks that exchange no mass.
_LEAST_CURVATURE = 1e-14
# The longest step of a logarithm: one Newton step from far away may point nearly to infinity.
_LONGEST_STEP = 30.0
# Values of the dual that differ by less are equal: the sum of its terms is no more exact.
_DUAL_ROUNDING = 1e-13


class DualPoint(typing.NamedTuple):
    """A point of the dual, for the k problems of a block."""

    log_u: tf.Tensor  # [k, n]
    log_v: tf.Tensor  # [k, m]
    shares: tf.Tensor  # [k, n, m], each row of the plan divided by its sum
    row_masses: tf.Tensor  # [k, n]
    column_masses: tf.Tensor  # [k, m]
    wanted: tf.Tensor  # [k, m]: the column masses at the optimum of the penalty
    dual: tf.Tensor  # [k], in units of epsilon
    error: tf.Tensor  # [k]


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def iterate(problem, log_u, log_v, error, threshold, max_iterations):
    """Solves the problems whose error is above the threshold.

    In units of epsilon the dual of the column potentials alone has the gradient `w - c` and the Hessian `-M`,

        M = diag(c + epsilon / tau_b w) - damping_a R' diag(r) R

    with column masses c, wanted column masses w (b without a penalty), row masses r, and R the plan with each row
    divided by its mass. A step solves `(M + lambda diag(c)) d = w - c` by conjugate gradients. As lambda grows it turns
    into a short Sinkhorn update, since `log(b / c)` is `(b - c) / c` to first order. If a step would lower the dual, a
    plain Sinkhorn update is made instead, which never does.

    Takes the row potentials [B, n], the column potentials [B, m] to start from, both in units of epsilon, and their
    marginal error [B]; returns `(log_u, log_v, marginal_error, n_iters)`, unchanged for problems that were solved.
    Reference: Brauer, Clason, Lorenz, Wirth, 2017, arXiv:1710.06635; Nocedal and Wright, 2006, Numerical Optimization,
    sections 7.1 and 10.3.
    """
    dtype = problem.dtype
    problem = problem.astype(tf.float64)
    is_open = ~(error <= threshold)
    threshold = tf.cast(threshold, tf.float64)

    def solve(indices, fresh, *results):
        block, start = blocks.gather(problem, indices), tf.gather(results[1], indices)
        solved = _solve_block(block, start, threshold, max_iterations)
        return [blocks.put(old, indices, fresh, new) for old, new in zip(results, solved, strict=True)]

    start = [tf.cast(x, tf.float64) for x in (log_u, log_v, error)] + [tf.zeros_like(error, tf.int32)]
    *floats, n_iters = blocks.for_each_block(problem, is_open, solve, start)
    return *(tf.cast(x, dtype) for x in floats), n_iters


def _solve_block(problem, log_v, threshold, max_iterations):
    """Returns `(log_u, log_v, marginal_error, n_iters)` of the problems of a block."""
    epsilon = problem.epsilon
    tiny = 1e-300

    def advance(count, state, lam, refused, n_iters):
        # A problem whose error is NaN is not active: it would never end.
        active = state.error > threshold
        ridge = lam[:, None] * tf.maximum(state.column_masses, tiny)
        gradient = state.wanted - state.column_masses
        if problem.tau_a is None and problem.tau_b is None:
            # Along constants the dual is flat, or unbounded if the masses of the two sides differ by rounding.
            excess = tf.reduce_sum(gradient, axis=1, keepdims=True) / tf.reduce_sum(state.row_masses, 1, keepdims=True)
            gradient -= excess * state.column_masses
        newton = conjugate_gradients(problem, state, gradient, ridge, _CG_RESIDUAL, tf.constant(_CG_STEPS))
        newton = tf.clip_by_value(newton, -_LONGEST_STEP, _LONGEST_STEP)
        log_ratio = tf.math.log(tf.maximum(state.wanted, tiny)) - tf.math.log(tf.maximum(state.column_masses, tiny))
        plain = damping(epsilon, problem.tau_b) * log_ratio
        trial = evaluate(problem, state.log_v + tf.where(refused[:, None], plain, newton))
        rounding = _DUAL_ROUNDING * tf.maximum(tf.abs(state.dual), 1.0)
        taken = refused | (trial.dual >= state.dual - rounding)
        lam = tf.where(refused, lam, tf.where(taken, tf.maximum(lam * _DECAY, _LEAST_DAMPING), lam * _GROWTH))
        state = _choose(active & taken, trial, state)
        return count + 1, state, lam, ~taken, n_iters + tf.cast(active, tf.int32)

    def goes_on(count, state, *_):
        return (count < max_iterations) & tf.reduce_any(state.error > threshold)

    # One update at the start and one at the end, by log-sum-exp, make columns with hardly any mass exact: masses cannot
    # express them, and the steps do not see them.
    ones = tf.ones_like(log_v[:, 0])
    state = evaluate(problem, update_columns(problem, shift_to_balance(problem, log_v)))
    start = (tf.constant(0), state, _FIRST_DAMPING * ones, ones < 0.0, tf.zeros_like(ones, tf.int32))
    _, state, _, _, n_iters = tf.while_loop(goes_on, advance, start)
    log_v = update_columns(problem, state.log_v)
    return log_row_potentials(problem, log_v), log_v, state.error, n_iters


def log_row_potentials(problem, log_v):
    """Returns `log_u` [k, n] after the row update of `log_v` [k, m]."""
    log_sums = tf.reduce_logsumexp(log_v[:, None, :] - problem.cost_matrix / problem.epsilon, axis=2)
    return damping(problem.epsilon, problem.tau_a) * (problem.log_a - log_sums)


def shift_to_balance(problem, log_v):
    """Returns `log_v` [k, m] plus the constant at which rows and columns want the same mass.

    If the costs are far from 0 over epsilon, updates and steps need hundreds of iterations to get there (translation
    invariant Sinkhorn, arXiv:2201.00730). Without penalties both sides want the same mass, and constants do not matter.
    """
    if problem.tau_a is None and problem.tau_b is None:
        return log_v
    epsilon = problem.epsilon
    row_rate = 0.0 if problem.tau_a is None else epsilon / problem.tau_a
    column_rate = 0.0 if problem.tau_b is None else epsilon / problem.tau_b
    rows = tf.reduce_logsumexp(problem.log_a - row_rate * log_row_potentials(problem, log_v), axis=1, keepdims=True)
    columns = tf.reduce_logsumexp(problem.log_b - column_rate * log_v, axis=1, keepdims=True)
    return log_v + (columns - rows) / (damping(epsilon, problem.tau_a) * row_rate + column_rate)


def update_columns(problem, log_v):
    """Returns `log_v` [k, m] after one Sinkhorn iteration."""
    log_u = log_row_potentials(problem, log_v)
    log_sums = tf.reduce_logsumexp(log_u[:, :, None] - problem.cost_matrix / problem.epsilon, axis=1)
    return damping(problem.epsilon, problem.tau_b) * (problem.log_b - log_sums)


def evaluate(problem, log_v):
    """Returns the `DualPoint` at the column potentials `log_v` [k, m]."""
    epsilon = problem.epsilon
    exponent = log_v[:, None, :] - problem.cost_matrix / epsilon
    log_sums = tf.reduce_logsumexp(exponent, axis=2, keepdims=True)
    shares = tf.exp(exponent - log_sums)
    log_u = damping(epsilon, problem.tau_a) * (problem.log_a - log_sums[:, :, 0])
    row_masses = wanted_marginal(problem.a, problem.log_a, log_u, epsilon, problem.tau_a)
    column_masses = tf.linalg.matvec(shares, row_masses, transpose_a=True)
    wanted = wanted_marginal(problem.b, problem.log_b, log_v, epsilon, problem.tau_b)
    rows = dual_term(problem.a, problem.log_a, log_u * epsilon, problem.tau_a)
    columns = dual_term(problem.b, problem.log_b, log_v * epsilon, problem.tau_b)
    dual = (rows + columns) / epsilon - tf.reduce_sum(row_masses, axis=1)
    error = tf.reduce_sum(tf.abs(column_masses - wanted), axis=1)
    return DualPoint(log_u, log_v, shares, row_masses, column_masses, wanted, dual, error)


def conjugate_gradients(problem, state, right_side, ridge, relative_residual, max_steps):
    """Solves `(M + diag(ridge)) d = right_side` for each problem of a block, M as in `iterate`.

    The diagonal preconditioner is the column masses; without a penalty the eigenvalues of M then lie in [0, 1]. M is
    singular along constants in that case, so the right side must be orthogonal to them. A problem stops at a residual
    of `relative_residual` times the norm of its right side [k, m].
    """
    row_damping = damping(problem.epsilon, problem.tau_a)
    diagonal = state.column_masses + ridge
    if problem.tau_b is not None:
        diagonal += state.wanted * problem.epsilon / problem.tau_b
    scale = 1.0 / tf.maximum(diagonal, 1e-300)

    def product(vector):
        through_rows = state.row_masses * tf.linalg.matvec(state.shares, vector)
        return diagonal * vector - row_damping * tf.linalg.matvec(state.shares, through_rows, transpose_a=True)

    def inner(x, y):
        return tf.reduce_sum(x * y, axis=1, keepdims=True)

    def goes_on(count, solution, residual, conjugate, size):
        return (count < max_steps) & tf.reduce_any(size > target)

    def advance(count, solution, residual, conjugate, size):
        image = product(conjugate)
        curvature = inner(conjugate, image)
        # A curvature this small is rounding: nothing can be gained along it.
        active = (size > target) & (curvature > _LEAST_CURVATURE * inner(conjugate, diagonal * conjugate))
        length = tf.where(active, size / tf.where(active, curvature, 1.0), 0.0)
        solution += length * conjugate
        residual -= length * image
        new_size = tf.where(active, inner(residual, scale * residual), 0.0)
        conjugate = scale * residual + tf.math.divide_no_nan(new_size, size) * conjugate
        return count + 1, solution, residual, conjugate, new_size

    first = scale * right_side
    size = inner(right_side, first)
    target = relative_residual**2 * size
    start = (tf.constant(0), tf.zeros_like(right_side), right_side, first, size)
    return tf.while_loop(goes_on, advance, start)[1]


def _choose(condition, new, old):
    """Returns the `DualPoint` that takes each problem from `new` if its condition [k] holds, else from `old`."""
    expand = [tf.reshape(condition, [-1] + [1] * (len(x.shape) - 1)) for x in new]
    return DualPoint(*(tf.where(*parts) for parts in zip(expand, new, old, strict=True)))
