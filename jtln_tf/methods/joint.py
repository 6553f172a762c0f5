"""Training on both domains at once."""

import dataclasses

from jtln_tf.config import MOST_FACTOR, SIDES, option
from jtln_tf.methods.base import plan_stages
from jtln_tf.methods.target_only import TargetOnly


@dataclasses.dataclass(frozen=True)
class Joint(TargetOnly):
    """Trains one network on both domains at once, each with its own head."""

    name = "joint"
    title = "joint without OT"
    reports = ("source_loss", "target_loss")

    source_weight: float = option(
        1.0, "Weight of the source classification loss.", minimum=0.0, maximum=MOST_FACTOR, tuned=(0.1, 10.0)
    )

    def stages(self, steps):
        """Returns one stage on both domains."""
        return plan_stages(("joint", SIDES, steps))

    def losses(self, labels, outputs, moment):
        """Returns the cross-entropy of both domains."""
        terms = super().losses(labels, outputs, moment)
        if "source_loss" in terms:
            terms["source_loss"] = terms["source_loss"]._replace(weight=self.source_weight)
        return terms
