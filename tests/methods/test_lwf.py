"""LwF against its equations, in float64."""

import numpy as np
import tensorflow as tf

from jtln_tf.methods.lwf import LwF
from tests.methods.conftest import log_softmax, make_moment, make_outputs


def test_the_source_head_is_held_to_its_teacher_at_a_temperature():
    rng = np.random.default_rng(0)
    one = make_outputs(rng, teacher=make_outputs(rng))
    method = LwF(lwf_weight=0.5)
    terms = method.losses({"target": tf.constant([0, 1, 2, 0, 1])}, {"target": one}, make_moment())
    # Equation 3: probabilities to the power 1 / T, brought to the sum 1.
    before, now = (
        np.exp(log_softmax(logits)) ** (1 / 2.0) for logits in (np.asarray(one.teacher.source), np.asarray(one.source))
    )
    before, now = before / before.sum(1, keepdims=True), now / now.sum(1, keepdims=True)
    np.testing.assert_allclose(terms["distillation_loss"].values, -(before * np.log(now)).sum(1), rtol=1e-5)
    assert terms["distillation_loss"].weight == 0.5
    assert set(method.losses({"source": tf.constant([0] * 5)}, {"source": one}, make_moment())) == {"source_loss"}
