"""JTLN: joint training with an optimal transport loss between the two heads' predictions."""

import dataclasses

import numpy as np

from jtln_tf.config import MOST_FACTOR, MOST_STEPS, InputError, option
from jtln_tf.methods.joint import Joint

_LEAST_PENALTY = 1e-6


@dataclasses.dataclass(frozen=True)
class Jtln(Joint):
    """Joint training, with the optimal transport between the two heads' predictions of each image as a third term.

        loss =                       mean over target images of CE(y, p_t(x))
             + source_weight    *    mean over source images of CE(y, p_s(x))
             + transport_weight *    mean over the chosen images of OT_epsilon(p_s(x), p_t(x); C)

    Reference:
        Lu, Chen, Saidi, 2017, Optimal Transport for Deep Joint Transfer Learning, arXiv:1709.02995.
    """

    name = "jtln"
    title = "JTLN"
    reports = (
        *Joint.reports,
        "transport_loss",
        "marginal_error",
        "transport_converged",
        "sinkhorn_iterations",
        "transport_weight",
    )
    uses_costs = True

    transport_weight: float = option(
        1.0, "Weight of the optimal transport loss.", minimum=0.0, maximum=MOST_FACTOR, tuned=(0.1, 10.0)
    )
    transport_images: str = option(
        "source", "Images on which the transport loss is taken.", choices=("source", "target", "both")
    )
    transport_gradient: str = option(
        "target", "Head whose prediction the transport loss moves.", choices=("source", "target", "both")
    )
    transport_source_marginal: str = option(
        "prediction",
        "Source side of the transport: the source head's prediction, or the smoothed label of source images.",
        choices=("prediction", "label"),
    )
    transport_label_smoothing: float = option(
        0.1, "Mass spread evenly over all classes by --transport_source_marginal=label.", minimum=0.0, maximum=1.0
    )
    transport_temperature: float = option(
        1.0, "Temperature of both softmaxes inside the transport loss.", minimum=1e-6, maximum=1e6
    )
    transport_marginal_penalty: float = option(
        0.0,
        "Weight of the penalty (Kullback-Leibler) for a transport that misses either head's prediction, in units of "
        "the cost matrix: unbalanced transport, the freer the smaller it is; 0: no penalty, it must fit both.",
        minimum=0.0,
        maximum=MOST_FACTOR,
    )
    transport_gate: str = option(
        "agreement",
        "How far the transport is trusted. agreement: as far as source and target classes choose each other more "
        "clearly than by chance, for each source class; none: fully.",
        choices=("agreement", "none"),
    )
    transport_start_step: int = option(0, "Step at which the transport loss sets in.", minimum=0, maximum=MOST_STEPS)
    transport_ramp_steps: int = option(
        0, "Steps over which its weight then grows linearly.", minimum=0, maximum=MOST_STEPS
    )
    epsilon: float = option(
        0.03,
        "Entropic regularization, in units of the cost matrix: mkmmd and uniform span 0 to 1.",
        minimum=1e-6,
        maximum=1e6,
        tuned=(0.01, 0.1),
    )
    sinkhorn_threshold: float = option(
        1e-3, "L1 error of the marginals at which Sinkhorn stops.", minimum=1e-9, maximum=1.0
    )
    sinkhorn_max_iterations: int = option(1000, "Most Sinkhorn iterations in a step.", minimum=1, maximum=10**6)

    def __post_init__(self):
        super().__post_init__()
        if 0 < self.transport_marginal_penalty < _LEAST_PENALTY:
            raise InputError(
                f"`transport_marginal_penalty` must be 0 or at least {_LEAST_PENALTY}. Received: "
                f"{self.transport_marginal_penalty}."
            )
        if self.transport_source_marginal == "label" and self.transport_images != "source":
            raise InputError(
                "`transport_source_marginal`=label needs `transport_images`=source: only source images have a source "
                f"label. Received: transport_images={self.transport_images!r}."
            )
        if self.transport_source_marginal == "label" and self.transport_gradient != "target":
            raise InputError(
                "`transport_source_marginal`=label needs `transport_gradient`=target: a label cannot be moved. "
                f"Received: transport_gradient={self.transport_gradient!r}."
            )

    def check(self, config):
        """Checks that costs are found before the last step, from what training sees."""
        cost, steps = config.cost, config.training.steps
        first = self.transport_start_step or cost.refresh_steps
        if cost.matrix.is_online and steps and first >= steps:
            raise InputError(
                "`cost_matrix`=online must find costs before the last step: after `transport_start_step`, or the first "
                f"`cost_refresh_steps` if that is 0. Received: {first} of {steps} steps."
            )

    def make_state(self, network, cost=None):
        """Returns the class costs and, if they are found online, the class means that they are found from."""
        from jtln_tf.methods.jtln.state import TransportState

        memory_steps = cost.refresh_steps if cost is not None and cost.matrix.is_online else 0
        return TransportState(network, memory_steps, is_gated=self.transport_gate == "agreement")

    def prepare(self, setup):
        """Returns the class costs known before training; None if they are found while training.

        A strong start then follows how far the classes agree.
        """
        from jtln_tf.methods.jtln.costs import prior_costs
        from jtln_tf.methods.jtln.start import follow_agreement

        costs = prior_costs(setup)
        is_known = costs is not None and setup.saved_costs is None
        return follow_agreement(setup, costs) if is_known and self.transport_gate == "agreement" else costs

    def losses(self, labels, outputs, moment):
        """Returns the three terms and, unweighted, how well the transport was solved."""
        from jtln_tf.methods.jtln.transport import transport_terms

        terms = super().losses(labels, outputs, moment)
        # Without a weight, or before the other domain is in the batch, there is nothing to solve.
        if len(outputs) == 2 and self.transport_weight:
            terms |= transport_terms(self, labels, outputs, moment)
        return terms

    def observe(self, labels, outputs, moment):
        """Gathers the source head's mean prediction for each class, if costs are found online."""
        moment.state.observe(labels, outputs)

    def describe(self, state):
        """Returns the mean weight of the transport over the source classes: how far the classes agree."""
        if self.transport_gate == "none" or state.costs_in_use() is None:
            return {}
        return {"transport_agreement": float(np.asarray(state.source_weights).mean())}

    def refresh(self, step, state, setup):
        """Estimates the class costs every `cost_refresh_steps` steps, from when the transport loss sets in."""
        since, every = step - self.transport_start_step, setup.cost.refresh_steps
        if not every or since < 0 or since % every:
            return None
        from jtln_tf.methods.jtln.costs import current_costs

        costs = current_costs(step, state, setup)
        if costs is not None:
            state.set_costs(costs)
        return costs
