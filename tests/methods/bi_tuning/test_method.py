"""Bi-tuning against its equations, in float64, and its queue against one of Python."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.config import InputError
from jtln_tf.methods.bi_tuning.contrast import KeyQueue
from jtln_tf.methods.bi_tuning.method import BiTuning
from jtln_tf.network import copy_network, features_model
from tests.methods.conftest import make_moment, make_network, make_outputs

LABELS = np.array([0, 2, 1, 1, 0])


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_a_queue_holds_the_last_vectors_of_each_class():
    rng, queue = np.random.default_rng(0), KeyQueue(3, 4, 2, name="queue")
    expected = [collections.deque(maxlen=4) for _ in range(3)]
    # The last batch has more of a class than there are places.
    for labels in ([0, 0, 1], [2, 0, 0, 0], [1] * 7):
        vectors = rng.normal(size=(len(labels), 2)).astype(np.float32)
        tf.function(queue.add)(tf.constant(vectors), tf.constant(labels))
        for label, vector in zip(labels, vectors, strict=True):
            expected[label].append(vector)
        found, classes, is_taken = (part.numpy() for part in queue.read())
        for label in range(3):
            own = found[(classes == label) & is_taken]
            assert sorted(map(tuple, own)) == sorted(map(tuple, expected[label]))
    queue.empty()
    assert not queue.read()[2].numpy().any()


@pytest.mark.parametrize("options", [{}, {"neck": "identity"}])
def test_both_losses_contrast_an_image_with_the_keys_of_all_classes(options):
    rng, network = np.random.default_rng(1), make_network(**options)
    method = BiTuning(bi_tuning_weight=0.6, bi_tuning_width=3, bi_tuning_keys=2, bi_tuning_temperature=0.5)
    state = method.make_state(network)
    moment = make_moment(network, state, teacher=copy_network(network))
    method.begin_stage(method.stages(4)[1], moment)
    batches = [make_outputs(rng, second=make_outputs(rng, teacher=make_outputs(rng))) for _ in range(2)]
    for batch in batches[:1]:
        method.observe({"target": tf.constant(LABELS)}, {"target": batch}, moment)
    terms = method.losses({"target": tf.constant(LABELS)}, {"target": batches[1]}, moment)

    def describe(features, projector):
        features = np.asarray(features, np.float64)
        projected = features @ np.asarray(projector.kernel, np.float64) + projector.bias.numpy()
        extended = features if options else np.concatenate([features, np.ones((5, 1))], 1)
        return unit(extended), unit(projected)

    head = network.get_layer("target_logits")
    kernel, bias = head.kernel.numpy().T.astype(np.float64), head.bias.numpy()[:, None]
    weights = unit(kernel if options else np.concatenate([kernel, bias], 1))
    keys = describe(batches[0].second.teacher.features, state.key_projector)
    own = describe(batches[1].features, state.projector)
    own_keys = describe(batches[1].second.teacher.features, state.key_projector)
    for name, queued, ours in (
        ("class_contrast_loss", keys[0] @ weights.T, (own[0] * weights[LABELS]).sum(1)),
        ("projection_contrast_loss", keys[1] @ own[1].T, (own[1] * own_keys[1]).sum(1)),
    ):
        expected = []
        for row, label in enumerate(LABELS):
            column = label if name.startswith("class") else row
            scores = np.exp(np.array([ours[row], *queued[:, column]]) / 0.5)
            positive = [True, *(label == LABELS)]
            expected.append(-np.log(scores[positive] / scores.sum()).mean())
        np.testing.assert_allclose(terms[name].values, expected, rtol=1e-4)
        assert terms[name].weight == 0.6


def test_the_network_of_keys_follows_slowly():
    network, method = make_network(), BiTuning(bi_tuning_momentum=0.9)
    state, rng = method.make_state(network), np.random.default_rng(2)
    moment = make_moment(network, state, teacher=copy_network(network))
    method.begin_stage(method.stages(4)[1], moment)
    before = network.get_layer("backbone").get_weights()
    for variable in (*features_model(network).variables, *state.projector.variables):
        variable.assign_add(np.ones(variable.shape))
    outputs = make_outputs(rng, second=make_outputs(rng, teacher=make_outputs(rng)))
    method.observe({"source": tf.constant(LABELS)}, {"source": outputs}, moment)
    np.testing.assert_array_equal(moment.teacher.get_layer("backbone").get_weights()[0], before[0])
    method.observe({"target": tf.constant(LABELS)}, {"target": outputs}, moment)
    for old, new in zip(before, moment.teacher.get_layer("backbone").get_weights(), strict=True):
        np.testing.assert_allclose(new, old + 0.1, atol=1e-6)
    np.testing.assert_allclose(state.key_projector.kernel, state.projector.kernel - 0.9, atol=1e-6)


def test_several_replicas_and_hidden_layers_are_refused(two_cpus):
    with two_cpus.scope(), pytest.raises(InputError, match="`method`=bi_tuning needs a single replica. Received: 2"):
        BiTuning().make_state(make_network())
    with pytest.raises(InputError, match="`head_hidden_units` must be empty for method=bi_tuning"):
        BiTuning().make_state(make_network(head_hidden_units=(4,)))
