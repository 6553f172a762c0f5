"""The two costs of solved problems, with their gradients."""

import tensorflow as tf

from jtln_tf.ot import plans
from jtln_tf.ot.problem import dual_gradient, dual_term, wanted_marginal


def regularized_cost(problem, f, g):
    """Returns the dual value of the potentials, [B], differentiable in the masses, the costs and epsilon.

    `f` [B, n] and `g` [B, m] are the potentials at the optimum, in units of cost. By the envelope theorem they may be
    held fixed: nothing is unrolled.
    """
    fixed = problem.detached()
    is_unbalanced = problem.tau_a is not None or problem.tau_b is not None

    @tf.custom_gradient
    def cost(*inputs):
        value = dual_term(fixed.a, fixed.log_a, f, fixed.tau_a)
        value += dual_term(fixed.b, fixed.log_b, g, fixed.tau_b)
        if is_unbalanced:
            value -= fixed.epsilon * (_plan_masses(fixed, f, g) - 1.0)

        def gradient(upstream):
            in_epsilon = _negative_entropies(fixed, f, g)
            if is_unbalanced:
                in_epsilon -= _plan_masses(fixed, f, g) - 1.0
            return (
                upstream[:, None] * dual_gradient(f, fixed.tau_a),
                upstream[:, None] * dual_gradient(g, fixed.tau_b),
                plans.summed_plans(fixed, f / fixed.epsilon, g / fixed.epsilon, upstream),
                tf.reduce_sum(upstream * in_epsilon),
            )

        return value, gradient

    return cost(problem.a, problem.b, problem.cost_matrix, problem.epsilon)


def transport_cost(problem, f, g):
    """Returns `<P, C>` of each problem, [B], differentiable in the masses, the costs and epsilon."""
    fixed = problem.detached()
    log_u, log_v = f / fixed.epsilon, g / fixed.epsilon

    @tf.custom_gradient
    def cost(*inputs):
        value = plans.transport_costs(fixed, log_u, log_v)
        return value, lambda upstream: plans.transport_gradients(fixed, log_v, upstream)

    return cost(problem.a, problem.b, problem.cost_matrix, problem.epsilon)


def _plan_masses(problem, f, g):
    """Returns the mass of each plan, [B]: the side solved in closed form has exactly the wanted marginal."""
    rows, columns = _wanted_marginals(problem, f, g)
    return tf.reduce_sum(columns if problem.has_fewer_rows else rows, axis=1)


def _negative_entropies(problem, f, g):
    """Returns `sum P log P` of each plan, [B]."""
    rows, columns = _wanted_marginals(problem, f, g)
    costs = plans.transport_costs(problem, f / problem.epsilon, g / problem.epsilon)
    return (tf.reduce_sum(f * rows, axis=1) + tf.reduce_sum(g * columns, axis=1) - costs) / problem.epsilon


def _wanted_marginals(problem, f, g):
    epsilon = problem.epsilon
    rows = wanted_marginal(problem.a, problem.log_a, f / epsilon, epsilon, problem.tau_a)
    return rows, wanted_marginal(problem.b, problem.log_b, g / epsilon, epsilon, problem.tau_b)
