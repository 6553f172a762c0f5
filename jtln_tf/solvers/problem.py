"""What all parts of the solver take: the marginals, the cost they share, and the penalties. Floor 1."""

import typing

import tensorflow as tf


class Problem(typing.NamedTuple):
    """B transport problems under one cost matrix.

    The plan of each is `P_ij = exp(log_u_i + log_v_j - C_ij / epsilon)`, with `log_u = f / epsilon` and
    `log_v = g / epsilon` for potentials f, g. With a penalty `tau * KL(marginal | mass)` in place of a fixed marginal
    the marginal at the optimum is `mass * exp(-potential / tau)`; without one it is the mass.

    Attributes:
        a: Row masses [B, n], positive.
        b: Column masses [B, m], positive.
        log_a: Their logarithms [B, n].
        log_b: Their logarithms [B, m].
        cost_matrix: Costs C [n, m].
        epsilon: Entropic weight, scalar, in units of cost.
        tau_a: Weight of the penalty on the row marginals, scalar, in units of cost; None keeps them fixed.
        tau_b: The same of the column marginals.
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

    def transposed(self):
        """Returns the same problems with rows and columns exchanged."""
        return Problem(
            a=self.b,
            b=self.a,
            log_a=self.log_b,
            log_b=self.log_a,
            cost_matrix=tf.transpose(self.cost_matrix),
            epsilon=self.epsilon,
            tau_a=self.tau_b,
            tau_b=self.tau_a,
        )

    def astype(self, dtype):
        """Returns the same problems in another float type."""
        return Problem(*(None if field is None else tf.cast(field, dtype) for field in self))

    def detached(self):
        """Returns the same problems with no gradient flowing into them."""
        return Problem(*(None if field is None else tf.stop_gradient(field) for field in self))

    def marginals_kept(self):
        """Whether row and column marginals are fixed, two booleans known before anything runs."""
        return self.tau_a is None, self.tau_b is None


def damping(epsilon, tau):
    """Returns the share `tau / (tau + epsilon)` of a Sinkhorn update that a penalty lets through; 1 without one.

    Reference:
        Chizat, Peyre, Schmitzer, Vialard, 2018, arXiv:1607.05816, section 5.
    """
    return tf.ones_like(epsilon) if tau is None else tau / (tau + epsilon)


def wanted_marginal(mass, log_potential, epsilon, tau):
    """Returns the marginal at the optimum of the penalty, given the potential in units of epsilon."""
    return mass if tau is None else mass * tf.exp(-log_potential * epsilon / tau)


def dual_term(mass, potential, tau, axis):
    """Returns what a potential adds to the dual: `<p, mass>`, or with a penalty `tau <1 - exp(-p / tau), mass>`."""
    gain = potential if tau is None else -tau * tf.math.expm1(-potential / tau)
    return tf.reduce_sum(gain * mass, axis=axis)
