"""Optimal transport solvers. Floor 1.

The room is not called `sinkhorn`, because `jtln_tf.sinkhorn` is the function.
"""

from jtln_tf.ot.sinkhorn import SinkhornOutput, sinkhorn, sinkhorn_from_logits

__all__ = ["SinkhornOutput", "sinkhorn", "sinkhorn_from_logits"]
