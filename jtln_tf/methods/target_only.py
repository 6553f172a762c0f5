"""Training on the target alone."""

import dataclasses

from jtln_tf.methods.base import Method, Term, plan_stages


@dataclasses.dataclass(frozen=True)
class TargetOnly(Method):
    """Trains on the target alone: what the source is worth is measured against it."""

    name = "target_only"
    title = "target only"
    reports = ("target_loss",)

    def stages(self, steps):
        """Returns one stage on the target."""
        return plan_stages(("target", ("target",), steps))

    def losses(self, labels, outputs, moment):
        """Returns the cross-entropy of each domain in the batch."""
        from jtln_tf.methods.terms import cross_entropy

        return {f"{side}_loss": Term(cross_entropy(labels[side], outputs[side].head(side))) for side in outputs}
