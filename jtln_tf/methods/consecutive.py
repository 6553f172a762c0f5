"""The usual way: train on the source, then fine-tune on the target."""

import dataclasses

from jtln_tf.config import InputError
from jtln_tf.methods.base import plan_stages
from jtln_tf.methods.target_only import TargetOnly


@dataclasses.dataclass(frozen=True)
class Consecutive(TargetOnly):
    """Trains on the source for the first half of the steps, then on the target for the rest."""

    name = "consecutive"
    title = "consecutive (source, then target)"
    reports = ("source_loss", "target_loss")

    def check(self, config):
        """Checks also that there is a step for each stage."""
        super().check(config)
        if config.training.steps == 1:
            raise InputError(f"`steps` must be at least 2 for method={self.name}. Received: 1.")

    def stages(self, steps):
        """Returns a stage on the source and one on the target."""
        return plan_stages(("source", ("source",), steps // 2), ("target", ("target",), steps - steps // 2))
