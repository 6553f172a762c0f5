"""The solver of entropic optimal transport."""

from jtln_tf.ot.solver import SinkhornOutput, sinkhorn, sinkhorn_from_logits
