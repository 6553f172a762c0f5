"""Logistic regression on the features of the backbone: what people do first, alone and as a start."""

import dataclasses

from jtln_tf.methods.base import Method
from jtln_tf.methods.target_only import TargetOnly


@dataclasses.dataclass(frozen=True)
class LinearProbe(Method):
    """Fits a logistic regression to the normalized features of the target images, and trains nothing else.

    Its strength is chosen by cross-validation on the training images; with one image a class, it is fixed.
    """

    name = "linear_probe"
    title = "linear probe"
    reports = ()
    needs_neck = True
    uses_start = False

    def stages(self, steps):
        """Returns no stage."""
        return ()

    def prepare(self, setup):
        """Fits the target head; returns no costs."""
        from jtln_tf.features.probe import fit_probe

        fit_probe(setup.trained, setup.inputs["target"])

    def losses(self, labels, outputs, moment):
        """Returns no terms."""
        return {}


@dataclasses.dataclass(frozen=True)
class LpFt(TargetOnly):
    """Trains on the target alone, from the linear probe.

    Reference:
        Kumar et al., 2022, Fine-tuning can distort pretrained features and underperform out-of-distribution,
        arXiv:2202.10054.
    """

    name = "lp_ft"
    title = "linear probe, then fine-tuning"

    needs_neck = True
    uses_start = False

    prepare = LinearProbe.prepare
