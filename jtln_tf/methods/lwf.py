"""Learning without forgetting: while the target is learnt, the source head goes on saying what it said before."""

import dataclasses

from jtln_tf.config import MOST_FACTOR, option
from jtln_tf.methods.base import Term, find_trained_variables
from jtln_tf.methods.consecutive import Consecutive


@dataclasses.dataclass(frozen=True)
class LwF(Consecutive):
    """Trains like `Consecutive`, and holds the source head to what it said of the target's images before.

        CE(y, p_t(x))  +  lwf_weight * CE(q(x), p(x))

    with p and q the probabilities of the source head at temperature T, softmax(logits / T), of the network and of its
    copy when the target stage begins.

    The copy looks at the same augmented view as the network; the paper asks it once for each image. The paper first
    trains the new head alone; here it begins as the start of the run says.

    Reference:
        Li, Hoiem, 2016, Learning without forgetting, arXiv:1606.09282, eq. 1 to 3.
    """

    name = "lwf"
    title = "consecutive with LwF"
    reports = (*Consecutive.reports, "distillation_loss")
    uses_teacher = True

    lwf_weight: float = option(
        1.0, "lwf: weight of the loss that holds the source head.", minimum=0.0, maximum=MOST_FACTOR, tuned=(0.1, 10.0)
    )
    lwf_temperature: float = option(
        2.0, "lwf: temperature of the source head's probabilities in that loss.", minimum=1e-6, maximum=1e6
    )

    def make_state(self, network, cost=None):
        """Returns None; `InputError` if no layer is trained that both heads stand on."""
        find_trained_variables(self, network, "behind frozen features the source head does not reach the target's")

    def losses(self, labels, outputs, moment):
        """Returns the cross-entropy and, on the target, that of the source head with its teacher's."""
        terms = super().losses(labels, outputs, moment)
        if "target" in outputs:
            import tensorflow as tf

            from jtln_tf.methods.terms import cross_entropy

            one = outputs["target"]
            before = tf.nn.softmax(one.teacher.source / self.lwf_temperature)
            distance = cross_entropy(before, one.source / self.lwf_temperature)
            terms["distillation_loss"] = Term(distance, self.lwf_weight)
        return terms
