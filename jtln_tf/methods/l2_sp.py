"""L2-SP: fine-tuning that is pulled back to where it started."""

import dataclasses

from jtln_tf.config import MOST_FACTOR, option
from jtln_tf.methods.base import Term, find_trained_variables
from jtln_tf.methods.consecutive import Consecutive


@dataclasses.dataclass(frozen=True)
class L2SP(Consecutive):
    """Trains like `Consecutive`, with a penalty on how far the target stage moves from its starting point.

        l2_sp_alpha / 2 * |w_b - w_b0|^2  +  l2_sp_beta / 2 * |w_t|^2

    with w_b the trained weights of the backbone, w_b0 the same weights when the target stage begins, and w_t the
    weights of the target head, which is new there.

    Reference:
        Li, Grandvalet, Davoine, 2018, Explicit inductive bias for transfer learning with convolutional networks,
        arXiv:1802.01483, eq. 3.
    """

    name = "l2_sp"
    title = "consecutive with L2-SP"
    reports = (*Consecutive.reports, "starting_point_loss", "target_head_loss")

    l2_sp_alpha: float = option(
        0.01,
        "l2_sp: weight of the distance to the starting point.",
        minimum=0.0,
        maximum=MOST_FACTOR,
        tuned=(1e-4, 1.0),
    )
    l2_sp_beta: float = option(
        0.01, "l2_sp: weight of the size of the target head.", minimum=0.0, maximum=MOST_FACTOR, tuned=(1e-4, 1.0)
    )

    def make_state(self, network, cost=None):
        """Returns the starting point, a copy of the backbone's trained weights; `InputError` if there are none."""
        import keras

        variables = find_trained_variables(self, network, "it pulls its weights back to where they started")
        start = keras.layers.Layer(name="starting_point", trainable=False)
        for number, variable in enumerate(variables):
            own = start.add_weight(shape=variable.shape, initializer="zeros", trainable=False, name=f"start_{number}")
            own.assign(variable)
        return start

    def begin_stage(self, stage, moment):
        """Takes the present weights as the starting point."""
        from jtln_tf.network import backbone_variables

        for start, variable in zip(moment.state.weights, backbone_variables(moment.network), strict=True):
            start.assign(variable)

    def losses(self, labels, outputs, moment):
        """Returns the cross-entropy and, on the target, the two penalties."""
        terms = super().losses(labels, outputs, moment)
        if "target" in outputs:
            from jtln_tf.methods.terms import squared_size
            from jtln_tf.network import backbone_variables, head_variables

            pairs = zip(backbone_variables(moment.network), moment.state.weights, strict=True)
            moved = squared_size([variable.value - start.value for variable, start in pairs])
            size = squared_size([variable.value for variable in head_variables(moment.network, "target")])
            terms["starting_point_loss"] = Term(moved / 2, self.l2_sp_alpha)
            terms["target_head_loss"] = Term(size / 2, self.l2_sp_beta)
        return terms
