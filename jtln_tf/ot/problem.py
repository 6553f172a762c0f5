"""The problems: marginals, the cost they share, penalties, and the arithmetic that they need."""

import typing

import tensorflow as tf

# The kernel exp(-C / epsilon) is used in a type whose smallest normal number lies far below exp(-range / epsilon):
# float32 ends near exp(-87), float64 near exp(-708). The rest of the exponent is room for the sums.
LARGEST_RATIO = {tf.float32: 60.0, tf.float64: 600.0}
# The L1 marginal error that float32 still reaches: the sums of a thousand classes are exact to about a tenth of it.
_FLOAT32_THRESHOLD = 1e-5
# The exponential of this is still finite in float32.
_LARGEST_EXPONENT = 80.0


class Problem(typing.NamedTuple):
    """B transport problems under one cost matrix.

    The plan of each is `P_ij = exp(log_u_i + log_v_j - C_ij / epsilon)`, with `log_u = f / epsilon` and
    `log_v = g / epsilon` for potentials f, g. With a penalty `tau * KL(marginal | mass)` in place of a fixed marginal
    the marginal at the optimum is `mass * exp(-potential / tau)`; without one it is the mass.

    Attributes:
        a: Row masses [B, n], not negative.
        b: Column masses [B, m], not negative.
        log_a: Logarithms of the row masses [B, n], finite: a mass of 0 counts as a tiny one.
        log_b: Logarithms of the column masses [B, m], likewise.
        cost_matrix: Costs C [n, m].
        epsilon: Entropic weight, scalar, in units of cost.
        tau_a: Weight of the penalty on the row marginals, scalar, in units of cost; None keeps them fixed.
        tau_b: Weight of the penalty on the column marginals, likewise.
    """

    a: tf.Tensor
    b: tf.Tensor
    log_a: tf.Tensor
    log_b: tf.Tensor
    cost_matrix: tf.Tensor
    epsilon: tf.Tensor
    tau_a: tf.Tensor | None
    tau_b: tf.Tensor | None

    @property
    def dtype(self):
        """Type of all its numbers."""
        return self.a.dtype

    @property
    def has_fewer_rows(self):
        """Whether the rows are the smaller side, the one that is solved for; False if the sizes are not known."""
        n, m = self.cost_matrix.shape
        return n is not None and m is not None and n < m

    def transposed(self):
        """Returns the same problems with rows and columns exchanged."""
        a, b, log_a, log_b, cost_matrix, epsilon, tau_a, tau_b = self
        return Problem(b, a, log_b, log_a, tf.transpose(cost_matrix), epsilon, tau_b, tau_a)

    def astype(self, dtype):
        """Returns the same problems in another float type."""
        return Problem(*(None if field is None else tf.cast(field, dtype) for field in self))

    def detached(self):
        """Returns the same problems with no gradient flowing into them."""
        return Problem(*(None if field is None else tf.stop_gradient(field) for field in self))


def damping(epsilon, tau):
    """Returns the share of a Sinkhorn update that a penalty lets through (arXiv:1607.05816, section 5); 1 without."""
    return tf.ones_like(epsilon) if tau is None else tau / (tau + epsilon)


def wanted_marginal(mass, log_mass, log_potential, epsilon, tau):
    """Returns the marginal at the optimum of the penalty, given the potential in units of epsilon."""
    # In logarithms, because the potential of a mass that underflowed to 0 may have an infinite exponential.
    return mass if tau is None else tf.exp(log_mass - log_potential * epsilon / tau)


def dual_term(mass, log_mass, potential, tau):
    """Returns what a potential p adds to the dual: `<p, mass>`, or with a penalty `tau <1 - exp(-p / tau), mass>`."""
    if tau is None:
        return tf.reduce_sum(potential * mass, axis=1)
    # Near 0 a difference would lose digits; far from it a mass of 0 would meet an infinite factor.
    near = -mass * tf.math.expm1(tf.clip_by_value(-potential / tau, -1.0, 1.0))
    far = mass - tf.exp(log_mass - potential / tau)
    return tau * tf.reduce_sum(tf.where(tf.abs(potential) < tau, near, far), axis=1)


def dual_gradient(potential, tau):
    """Returns the derivative of `dual_term` in the mass; at most `exp(80)`, also for masses of 0."""
    return potential if tau is None else -tau * tf.math.expm1(tf.minimum(-potential / tau, _LARGEST_EXPONENT))


def marginal_per_mass(mass, potential, tau):
    """Returns the derivative of `wanted_marginal` in the mass; at most `exp(80)`, also for masses of 0."""
    return tf.ones_like(mass) if tau is None else tf.exp(tf.minimum(-potential / tau, _LARGEST_EXPONENT))


def by_form(problem, with_kernel, in_log_domain, threshold=1.0):
    """Calls `with_kernel(dtype)` or `in_log_domain()`: the fastest that is exact for the range of the costs."""
    costs = problem.cost_matrix
    ratio = (tf.reduce_max(costs) - tf.reduce_min(costs)) / problem.epsilon

    def in_float64():
        return tf.cond(ratio <= LARGEST_RATIO[tf.float64], lambda: with_kernel(tf.float64), in_log_domain)

    if problem.dtype != tf.float32 or threshold < _FLOAT32_THRESHOLD:
        return in_float64()
    return tf.cond(ratio <= LARGEST_RATIO[tf.float32], lambda: with_kernel(tf.float32), in_float64)
