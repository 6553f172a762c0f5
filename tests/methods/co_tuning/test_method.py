"""Co-Tuning against its equations, in float64."""

import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.methods.co_tuning.method import CoTuning
from jtln_tf.methods.co_tuning.relation import find_scale, relate_directly, relate_in_reverse, turn_around
from tests.methods.conftest import log_softmax, make_moment, make_network, make_outputs, make_setup


def draw_labelled(rng, count=60):
    """Probabilities of 4 source classes for 3 target classes: class 0 looks like 0 and 3, 1 and 2 like themselves."""
    labels = rng.integers(0, 3, count)
    likeness = np.array([[2.0, 0, 0, 2], [0, 3, 0, 0], [0, 0, 3, 0]])
    return np.exp(log_softmax(likeness[labels] + rng.normal(size=(count, 4)))), labels


def test_the_source_head_learns_what_each_class_looks_like():
    rng, network, method = np.random.default_rng(0), make_network(), CoTuning(co_tuning_weight=0.7)
    state, relation = method.make_state(network), rng.dirichlet(np.ones(4), 3)
    state.weights[0].assign(relation)
    one, labels = make_outputs(rng), np.array([0, 2, 1, 1, 0])
    shares = rng.dirichlet(np.ones(3), 5).astype(np.float32)
    for given, related in ((labels, relation[labels]), (shares, shares.astype(float) @ relation)):
        terms = method.losses({"target": tf.constant(given)}, {"target": one}, make_moment(network, state))
        expected = -(related * log_softmax(one.source)).sum(1)
        np.testing.assert_allclose(terms["source_head_loss"].values, expected, rtol=1e-5)
        assert terms["source_head_loss"].weight == 0.7


def test_relations_are_conditional_probabilities():
    probabilities, labels = draw_labelled(np.random.default_rng(1))
    direct = relate_directly(probabilities, labels)
    np.testing.assert_allclose(direct[1], np.mean([p for p, y in zip(probabilities, labels, strict=True) if y == 1], 0))
    forward, prior = np.random.default_rng(2).dirichlet(np.ones(3), 4), np.array([0.1, 0.2, 0.3, 0.4])
    expected = [[forward[s, t] * prior[s] / (forward[:, t] @ prior) for s in range(4)] for t in range(3)]
    np.testing.assert_allclose(turn_around(forward, prior), expected, rtol=1e-12)
    # Both find what the images were drawn by.
    for relation in (direct, relate_in_reverse(probabilities, labels)):
        np.testing.assert_allclose(relation.sum(1), 1)
        assert (relation[0, [0, 3]] > relation[0, 1:3].max()).all() and relation.argmax(1)[1:].tolist() == [1, 2]


def test_calibration_finds_the_scale_that_labels_were_drawn_with():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(20000, 4))
    labels = np.array([rng.choice(4, p=row) for row in np.exp(log_softmax(0.4 * logits))])
    # 20,000 draws.
    assert find_scale(logits, labels) == pytest.approx(0.4, rel=0.1)
    # All right: the scale has a bound.
    assert find_scale(np.eye(4), np.arange(4)) < 60


@pytest.mark.parametrize("relation", ["direct", "reverse"])
def test_the_target_stage_begins_with_the_relation_that_the_source_head_sees(relation):
    network, method, setup = make_network(), CoTuning(co_tuning_relation=relation), make_setup()
    state = method.make_state(network)
    source, target = method.stages(4)
    method.begin_stage(source, make_moment(network, state))
    np.testing.assert_allclose(state.weights[0], 0.25)
    method.begin_stage(target, make_moment(network, state, setup=setup))
    found = state.weights[0].numpy()
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    if relation == "direct":
        held_out, train = setup.inputs["source"].validation, setup.inputs["target"].train
        scale = find_scale(np.log(network(held_out.images.values)["source"]), held_out.labels)
        probabilities = np.exp(log_softmax(scale * np.log(network(train.images.values)["source"])))
        np.testing.assert_allclose(found, relate_directly(probabilities, train.labels), rtol=1e-3)
