"""Sums over the plans, without holding all of them."""

import tensorflow as tf

from jtln_tf.ot import blocks, newton
from jtln_tf.ot.problem import by_form, damping, marginal_per_mass
from jtln_tf.ot.products import matmul

# The relative residual of the linear system behind the gradient of the transport cost.
_RESIDUAL = 1e-10


def transport_costs(problem, log_u, log_v):
    """Returns `<P, C>` of each problem, [B]; potentials [B, n] and [B, m] in units of epsilon."""
    return _by_form(_costs_by_products, _costs_by_blocks, problem, log_u, log_v)


def summed_plans(problem, log_u, log_v, weights):
    """Returns the sum over the problems of `weights` [B] times their plans, [n, m]."""
    return _by_form(_plans_by_product, _plans_by_blocks, problem, log_u, log_v, weights)


def transport_gradients(problem, log_v, upstream):
    """Differentiates `<P, C>` through the optimality conditions (implicit differentiation).

    Let alpha, beta be the row and column sums of `P * C`. If marginals or costs change, the change of the potentials
    solves a linear system; its adjoint is

        diag(c + epsilon / tau_b w) z - damping_a P' diag(1 / r) P z = beta - damping_a P' (alpha / r)
        y = damping_a (alpha - P z) / r

    with the names of `newton.iterate`. Then `d<P, C> = <y, da> + <z, db> + <P * (1 + (y + z - C) / epsilon), dC>`; with
    a penalty, `da` or `db` is multiplied by `exp(-potential / tau)`.

    Takes the column potentials at the optimum [B, m], in units of epsilon, and the gradient of the loss in `<P, C>`,
    [B]; returns the gradients in a, b, the costs and epsilon: [B, n], [B, m], [n, m], scalar.
    """
    return _in_type(tf.float64, _transport_gradients, problem, log_v, upstream)


def _by_form(with_products, by_blocks, problem, *tensors):
    return by_form(
        problem,
        lambda dtype: _in_type(dtype, with_products, problem, *tensors),
        lambda: _in_type(tf.float64, by_blocks, problem, *tensors),
    )


def _in_type(dtype, function, problem, *tensors):
    """Returns what a function of problems returns in a float type, cast back to the problems' own."""
    results = function(problem.astype(dtype), *(tf.cast(x, dtype) for x in tensors))
    return tf.nest.map_structure(lambda x: tf.cast(x, problem.dtype), results)


def _factors(problem, log_u, log_v):
    """Returns u, v and the kernel K with `P = u K v`, none of which overflows, and the costs less the lowest."""
    lowest = tf.reduce_min(problem.cost_matrix)
    above = problem.cost_matrix - lowest
    level = tf.reduce_max(log_v, axis=1, keepdims=True)
    u, v = tf.exp(log_u + level - lowest / problem.epsilon), tf.exp(log_v - level)
    return u, v, tf.exp(-above / problem.epsilon), above


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def _costs_by_products(problem, log_u, log_v):
    u, v, kernel, above = _factors(problem, log_u, log_v)
    masses = tf.reduce_sum(u * matmul(v, kernel, transpose_b=True), axis=1)
    excess = tf.reduce_sum(u * matmul(v, kernel * above, transpose_b=True), axis=1)
    # The lowest cost is added last, so that no digits are lost on a constant that all costs share.
    return excess + tf.reduce_min(problem.cost_matrix) * masses


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def _costs_by_blocks(problem, log_u, log_v):
    finite = _without_infinity(problem.cost_matrix)

    def add(indices, fresh, costs):
        plans = _plans(problem, tf.gather(log_u, indices), tf.gather(log_v, indices))
        return [blocks.put(costs, indices, fresh, tf.reduce_sum(plans * finite, axis=[1, 2]))]

    costs = tf.zeros_like(log_u[:, 0])
    return blocks.for_each_block(problem, tf.ones_like(costs, tf.bool), add, [costs])[0]


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def _plans_by_product(problem, log_u, log_v, weights):
    u, v, kernel, _ = _factors(problem, log_u, log_v)
    return kernel * matmul(u * weights[:, None], v, transpose_a=True)


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def _plans_by_blocks(problem, log_u, log_v, weights):
    def add(indices, fresh, total):
        plans = _plans(problem, tf.gather(log_u, indices), tf.gather(log_v, indices))
        of_these = tf.where(fresh, tf.gather(weights, indices), 0.0)
        return [total + tf.reduce_sum(of_these[:, None, None] * plans, axis=0)]

    return blocks.for_each_block(problem, tf.ones_like(weights, tf.bool), add, [tf.zeros_like(problem.cost_matrix)])[0]


def _without_infinity(costs):
    # No mass moves at an infinite cost, and 0 times infinity is NaN.
    return tf.where(tf.math.is_finite(costs), costs, 0.0)


def _plans(problem, log_u, log_v):
    return tf.exp(log_u[:, :, None] + log_v[:, None, :] - problem.cost_matrix / problem.epsilon)


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def _transport_gradients(problem, log_v, upstream):
    epsilon, costs = problem.epsilon, problem.cost_matrix
    row_damping = damping(epsilon, problem.tau_a)
    finite = _without_infinity(costs)

    def add(indices, fresh, a_gradient, b_gradient, cost_gradient, epsilon_gradient):
        block = blocks.gather(problem, indices)
        state = newton.evaluate(block, tf.gather(log_v, indices))
        row_costs = tf.reduce_sum(state.shares * finite, axis=2)
        plans = state.shares * state.row_masses[:, :, None]
        right_side = tf.reduce_sum(plans * (finite - row_damping * row_costs[:, :, None]), axis=1)
        no_ridge = tf.zeros_like(right_side)
        z = newton.conjugate_gradients(block, state, right_side, no_ridge, _RESIDUAL, 4 * tf.shape(costs)[1] + 50)
        y = row_damping * (row_costs - tf.linalg.matvec(state.shares, z))
        # The system does not see columns of hardly any mass: one more update by where each column's mass goes.
        column_shares = tf.nn.softmax(state.log_u[:, :, None] - costs / epsilon, axis=1)
        z = damping(epsilon, problem.tau_b) * tf.reduce_sum(column_shares * (finite - y[:, :, None]), axis=1)
        y = row_damping * (row_costs - tf.linalg.matvec(state.shares, z))
        weights = tf.where(fresh, tf.gather(upstream, indices), 0.0)
        a_factor = marginal_per_mass(block.a, state.log_u * epsilon, problem.tau_a)
        b_factor = marginal_per_mass(block.b, state.log_v * epsilon, problem.tau_b)
        # Changed costs move the exponents of the plan by -dC / epsilon; a changed epsilon scales them.
        moved = weights[:, None, None] * plans * (finite - y[:, :, None] - z[:, None, :])
        exponents = state.log_u[:, :, None] + state.log_v[:, None, :] - finite / epsilon
        return [
            blocks.put(a_gradient, indices, fresh, weights[:, None] * y * a_factor),
            blocks.put(b_gradient, indices, fresh, weights[:, None] * z * b_factor),
            cost_gradient + tf.reduce_sum(weights[:, None, None] * plans - moved / epsilon, axis=0),
            epsilon_gradient - tf.reduce_sum(moved * exponents) / epsilon,
        ]

    start = [tf.zeros_like(problem.a), tf.zeros_like(problem.b), tf.zeros_like(costs), tf.zeros_like(epsilon)]
    return blocks.for_each_block(problem, tf.ones_like(upstream, tf.bool), add, start)
