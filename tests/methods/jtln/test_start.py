import dataclasses

import keras
import numpy as np

from jtln_tf.costs.config import CostConfig
from jtln_tf.data import Domain, Split
from jtln_tf.data.reading.images import Pixels
from jtln_tf.features.start import gather_class_sums, imprint_heads, start_neck
from jtln_tf.methods.base import Setup
from jtln_tf.methods.jtln.agreement import find_agreement
from jtln_tf.methods.jtln.method import Jtln
from jtln_tf.methods.jtln.state import TransportState
from jtln_tf.network import build_network, find_neck

WIDTH, CLASSES = 12, 5
RNG = np.random.default_rng(1)
MEANS = 4 * RNG.normal(size=(2, CLASSES, WIDTH))


def make_domain(means, count):
    labels = np.repeat(np.arange(CLASSES), count).astype(np.int32)
    features = (means[labels] + RNG.normal(size=(len(labels), WIDTH))).astype(np.float32)
    split = Split(Pixels(features), labels, image_size=0, channels=0)
    return Domain("made", tuple("abcde"), split, split.take(np.array([], int)), split)


def started(source_means, target_means, neck="whitened"):
    domains = {"source": make_domain(source_means, 20), "target": make_domain(target_means, 2)}
    image = keras.Input((WIDTH,))
    backbone = keras.Model(image, keras.layers.Identity()(image))
    network = build_network(backbone, CLASSES, CLASSES, image_shape=(WIDTH,), neck=neck)
    sums = gather_class_sums(network, domains)
    start_neck(network, sums, is_whitened=neck == "whitened")
    imprint_heads(network, domains)
    sides = {"domains": domains, "inputs": domains, "network": network, "trained": network}
    rest = {"cost": CostConfig(), "augmentation": {}, "backbone": "", "is_untrained": False, "seed": 0}
    return Setup(**sides, **rest, neck=neck, has_strong_start=True, saved_costs=None, class_sums=sums)


def weights(setup):
    return [np.array(value) for value in setup.trained.get_weights()]


def test_unrelated_classes_leave_the_start_as_it_is():
    setup = started(MEANS[0], MEANS[1])
    before = weights(setup)
    assert find_agreement(Jtln().prepare(setup).values).strength == 0
    for old, new in zip(before, weights(setup), strict=True):
        np.testing.assert_array_equal(old, new)


def test_where_classes_agree_the_neck_whitens_less_and_the_target_takes_over_the_source():
    # The same classes, elsewhere as a whole.
    setup, other = (started(MEANS[0], MEANS[0] + 30) for _ in range(2))
    costs = Jtln().prepare(setup)
    agreement = find_agreement(costs.values)
    assert agreement.strength == 1 and (costs.values.argmin(axis=0) == np.arange(CLASSES)).all()
    start_neck(setup.trained, setup.class_sums, is_whitened=True, shrinkage=0.9)
    expected = find_neck(setup.trained).kernel.numpy()
    kernel, head = find_neck(setup.trained).kernel.numpy(), np.array(setup.trained.get_layer("target_logits").kernel)
    np.testing.assert_allclose(kernel, expected, rtol=1e-5, atol=1e-6)
    imprint_heads(setup.trained, setup.inputs)
    source, target = (np.array(setup.trained.get_layer(f"{side}_logits").kernel) for side in ("source", "target"))
    np.testing.assert_allclose(head, target + 2 * source @ agreement.shares, rtol=1e-4, atol=1e-5)
    before = weights(other)
    Jtln(transport_gate="none").prepare(other)
    assert all((old == new).all() for old, new in zip(before, weights(other), strict=True))
    # As on a resumed run whose costs were lost.
    Jtln().prepare(dataclasses.replace(other, class_sums=None))
    found = find_neck(other.trained).kernel.numpy()
    start_neck(other.trained, other.class_sums, is_whitened=True, shrinkage=0.9)
    np.testing.assert_allclose(found, find_neck(other.trained).kernel.numpy(), rtol=1e-5, atol=1e-6)


def test_costs_that_the_images_contradict_leave_the_start_as_it_is(caplog):
    setup = started(MEANS[0], MEANS[0] + 30)
    setup = dataclasses.replace(setup, cost=CostConfig(matrix="shuffled:class_means"))
    before = weights(setup)
    costs = Jtln().prepare(setup)
    assert find_agreement(costs.values).strength == 1 and costs.trust == 0
    assert "--cost_matrix=shuffled:class_means, so it is trusted by 0 %" in caplog.text
    assert all((old == new).all() for old, new in zip(before, weights(setup), strict=True))
    state = TransportState(setup.trained, is_gated=True)
    state.set_costs(costs)
    assert not np.any(state.source_weights)
