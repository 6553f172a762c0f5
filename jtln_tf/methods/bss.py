"""Batch spectral shrinkage: fine-tuning that lets go of features that do not transfer."""

import dataclasses
import typing

from jtln_tf.config import MOST_FACTOR, InputError, option
from jtln_tf.methods.base import Term, find_trained_variables
from jtln_tf.methods.consecutive import Consecutive

if typing.TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class BSS(Consecutive):
    """Trains like `Consecutive`, and on the target shrinks the smallest singular values of the batch's features.

        mean of CE(y, p_t(x))  +  bss_weight * sum of the squares of the bss_count smallest singular values of F

    with F [B, D] the features of the batch of all replicas: what the heads read, behind a neck if there is one. So a
    frozen trunk will do if a neck is trained behind it.

    Reference:
        Chen, Wang, Fu, Long, Wang, 2019, Catastrophic forgetting meets negative transfer: batch spectral shrinkage for
        safe transfer learning, NeurIPS 32, the penalty L_bss.
    """

    name = "bss"
    title = "consecutive with BSS"
    reports = (*Consecutive.reports, "spectral_loss")

    bss_weight: float = option(
        0.001,
        "bss: weight of the squares of the smallest singular values.",
        minimum=0.0,
        maximum=MOST_FACTOR,
        tuned=(1e-4, 10.0),
    )
    bss_count: int = option(1, "bss: number of singular values that are shrunk.", minimum=1, maximum=10**6)

    def check(self, config):
        """Checks also that a batch has as many singular values as are shrunk."""
        super().check(config)
        if self.bss_count > config.data.target_batch:
            raise InputError(
                f"`bss_count` must be at most `target_batch`, {config.data.target_batch}. Received: {self.bss_count}."
            )

    def make_state(self, network, cost=None):
        """Returns None; `InputError` if the features cannot change."""
        find_trained_variables(self, network, "it changes the features")

    def losses(self, labels, outputs, moment):
        """Returns the cross-entropy and, on the target, the penalty."""
        terms = super().losses(labels, outputs, moment)
        if "target" in outputs:
            from jtln_tf.methods.terms import gather_batch

            features = gather_batch(outputs["target"].features)
            terms["spectral_loss"] = Term(smallest_singular_values(features, self.bss_count), self.bss_weight)
        return terms


def smallest_singular_values(features: "tf.Tensor", count: int) -> "tf.Tensor":
    """Returns the sum of the squares of the `count` smallest singular values of features [B, D], a scalar.

    With its singular vector u held fixed, |F^T u|^2 is the square of a singular value and has its gradient. Gradients
    of a singular value decomposition would divide by differences of singular values.
    """
    import tensorflow as tf

    is_wide = tf.shape(features)[0] <= tf.shape(features)[1]
    wide = tf.cond(is_wide, lambda: features, lambda: tf.transpose(features))
    # In float32 the vectors of the smallest values are lost beside the largest.
    fixed = tf.cast(tf.stop_gradient(wide), tf.float64)
    _, vectors = tf.linalg.eigh(tf.matmul(fixed, fixed, transpose_b=True))
    smallest = tf.cast(vectors[:, :count], features.dtype)
    return tf.reduce_sum(tf.square(tf.matmul(smallest, wide, transpose_a=True)))
