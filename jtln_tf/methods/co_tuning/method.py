"""Co-tuning: the source head stays in use, for what the target's classes look like to it."""

import dataclasses

from jtln_tf.config import MOST_FACTOR, option
from jtln_tf.methods.base import Term, find_trained_variables, require_setup
from jtln_tf.methods.consecutive import Consecutive


@dataclasses.dataclass(frozen=True)
class CoTuning(Consecutive):
    """Trains like `Consecutive`; on the target, each class also teaches the source head its share of source classes.

        CE(y, p_t(x))  +  co_tuning_weight * CE(p(y_s | y), p_s(x))

    with p(y_s | y_t) [m, n] estimated when the target stage begins, from the calibrated probabilities of the source
    head for the target's training images. `direct` takes their mean for each target class. `reverse`, what the
    authors' program uses, fits p(y_t | y_s) by a logistic regression from probabilities to target classes, and turns
    it around by Bayes' rule with the mean of all probabilities as p(y_s).

    The source head is calibrated on the source's validation images, or its training images if there are none. The
    strength of the regression is chosen by the loss in a cross-validation, which keeps its probabilities calibrated;
    the paper chooses it by accuracy on validation images, and calibrates after that.

    Reference:
        You, Kou, Long, Wang, 2020, Co-tuning for transfer learning, NeurIPS 33, the loss of Co-Tuning and the direct
        and reverse approach to category relationships.
    """

    name = "co_tuning"
    title = "consecutive with Co-Tuning"
    reports = (*Consecutive.reports, "source_head_loss")

    co_tuning_weight: float = option(
        2.3,
        "co_tuning: weight of the source head's loss on target images.",
        minimum=0.0,
        maximum=MOST_FACTOR,
        tuned=(0.1, 10.0),
    )
    co_tuning_relation: str = option(
        "reverse", "co_tuning: how source classes are related to each target class.", choices=("reverse", "direct")
    )

    def make_state(self, network, cost=None):
        """Returns p(y_s | y_t), even until it is estimated; `InputError` if the heads share nothing that is trained."""
        import keras

        find_trained_variables(self, network, "behind frozen features the source head does not reach the target's")
        counts = [network.output[side].shape[-1] for side in ("target", "source")]
        state, even = keras.layers.Layer(name="relation", trainable=False), keras.initializers.Constant(1 / counts[1])
        state.add_weight(shape=tuple(counts), initializer=even, trainable=False, dtype="float32", name="relation")
        return state

    def begin_stage(self, stage, moment):
        """Estimates the relation of the classes, if it is the target stage."""
        if "source" in stage.domains:
            return
        from jtln_tf.methods.co_tuning.relation import calibrated_probabilities, relate_directly, relate_in_reverse

        domains = require_setup(self, moment).inputs
        probabilities, labels = calibrated_probabilities(moment.network, domains)
        relate = {"direct": relate_directly, "reverse": relate_in_reverse}[self.co_tuning_relation]
        (relation,) = moment.state.weights
        relation.assign(relate(probabilities, labels))

    def losses(self, labels, outputs, moment):
        """Returns the cross-entropy and, on the target, that of the source head with the related classes."""
        terms = super().losses(labels, outputs, moment)
        if "target" in outputs:
            import tensorflow as tf

            from jtln_tf.methods.terms import are_probabilities, cross_entropy

            relation, own = tf.convert_to_tensor(moment.state.weights[0]), labels["target"]
            related = tf.matmul(own, relation) if are_probabilities(own) else tf.gather(relation, own)
            terms["source_head_loss"] = Term(cross_entropy(related, outputs["target"].source), self.co_tuning_weight)
        return terms
