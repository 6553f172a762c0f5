"""The two costs of solved problems, with their gradients. Floor 1."""

import tensorflow as tf

from jtln_tf.ot import plans
from jtln_tf.ot.problem import dual_gradient, dual_term, wanted_marginal


def regularized_cost(problem, f, g):
    """Returns the dual value of the potentials, [B], differentiable in the masses, the costs and epsilon.

    `f` [B, n] and `g` [B, m] are the potentials at the optimum, in units of cost. By the envelope theorem they may be
    held fixed: nothing is unrolled.
    """
    is_unbalanced = problem.tau_a is not None or problem.tau_b is not None

    @tf.custom_gradient
    def cost(a, b, cost_matrix, epsilon):
        value = dual_term(a, problem.log_a, f, problem.tau_a, axis=1)
        value += dual_term(b, problem.log_b, g, problem.tau_b, axis=1)
        if is_unbalanced:
            value -= epsilon * (_plan_masses(problem, f, g, epsilon) - 1.0)

        def gradient(upstream):
            detached, log_u, log_v = problem.detached(), f / epsilon, g / epsilon
            in_epsilon = _negative_entropies(problem, a, b, f, g, epsilon)
            return (
                upstream[:, None] * dual_gradient(f, problem.tau_a),
                upstream[:, None] * dual_gradient(g, problem.tau_b),
                plans.summed_plans(detached, log_u, log_v, upstream),
                tf.reduce_sum(upstream * in_epsilon),
            )

        return value, gradient

    return cost(problem.a, problem.b, problem.cost_matrix, problem.epsilon)


def transport_cost(problem, f, g):
    """Returns `<P, C>` of each problem, [B], differentiable in the masses, the costs and epsilon."""
    detached = problem.detached()
    log_u, log_v = f / detached.epsilon, g / detached.epsilon

    @tf.custom_gradient
    def cost(a, b, cost_matrix, epsilon):
        value = plans.transport_costs(detached, log_u, log_v)
        return value, lambda upstream: plans.transport_gradients(detached, log_v, upstream)

    return cost(problem.a, problem.b, problem.cost_matrix, problem.epsilon)


def _plan_masses(problem, f, g, epsilon):
    """Returns the mass of each plan, [B]: the side solved in closed form has exactly the wanted marginal."""
    if problem.has_fewer_rows:
        exact = wanted_marginal(problem.b, problem.log_b, g / epsilon, epsilon, problem.tau_b)
    else:
        exact = wanted_marginal(problem.a, problem.log_a, f / epsilon, epsilon, problem.tau_a)
    return tf.reduce_sum(exact, axis=1)


def _negative_entropies(problem, a, b, f, g, epsilon):
    """Returns the derivative of each dual value in epsilon, [B]."""
    costs = plans.transport_costs(problem.detached(), f / epsilon, g / epsilon)
    rows = wanted_marginal(a, problem.log_a, f / epsilon, epsilon, problem.tau_a)
    columns = wanted_marginal(b, problem.log_b, g / epsilon, epsilon, problem.tau_b)
    sums = tf.reduce_sum(f * rows, axis=1) + tf.reduce_sum(g * columns, axis=1) - costs
    if problem.tau_a is None and problem.tau_b is None:
        return sums / epsilon
    return sums / epsilon - (_plan_masses(problem, f, g, epsilon) - 1.0)
