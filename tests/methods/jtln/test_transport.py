"""The losses of the methods against plain NumPy."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.config import InputError
from jtln_tf.methods.base import Moment, Outputs
from jtln_tf.methods.joint import Joint
from jtln_tf.methods.jtln.method import Jtln
from jtln_tf.methods.jtln.state import TransportState
from jtln_tf.methods.jtln.transport import image_weights, solve_transport
from jtln_tf.methods.terms import cross_entropy
from tests import reference

RNG = np.random.default_rng(0)
COST = RNG.uniform(size=(6, 5)).astype("float32")
BATCHES = {"source": 4, "target": 3}
CLASSES = {"source": 6, "target": 5}
LOGITS = {
    domain: {head: RNG.normal(size=(batch, size)).astype("float32") for head, size in CLASSES.items()}
    for domain, batch in BATCHES.items()
}
LABELS = {domain: RNG.integers(0, CLASSES[domain], batch).astype("int32") for domain, batch in BATCHES.items()}
# The solver stops at this marginal error; costs of range 1 are then exact to it.
THRESHOLD = 1e-5


class Costs:
    """A `TransportState` without Keras."""

    def __init__(self, has_costs=1.0, trust=1.0):
        self.cost_values, self.has_costs = tf.constant(COST), tf.constant(has_costs)
        self.source_weights = tf.fill([len(COST)], trust)


def jtln(**options):
    return Jtln(**{"sinkhorn_threshold": THRESHOLD, "epsilon": 0.1, **options})


def outputs(*domains):
    return {
        domain: Outputs(tf.zeros([BATCHES[domain], 2]), *(tf.constant(LOGITS[domain][head]) for head in CLASSES))
        for domain in domains or BATCHES
    }


def labels(*domains):
    return {domain: tf.constant(LABELS[domain]) for domain in domains or BATCHES}


def moment(step=0, has_costs=1.0, trust=1.0):
    return Moment(tf.constant(step, tf.int64), None, Costs(has_costs, trust))


def total_and_gradients(method, given=None, given_labels=None):
    """The weighted sum of the means of the terms, the terms, and the gradient of each head's logits of each domain."""
    given = given or outputs()
    logits = {(domain, head): given[domain].head(head) for domain in given for head in CLASSES}
    with tf.GradientTape() as tape:
        tape.watch(logits)
        terms = method.losses(given_labels or labels(*given), given, moment())
        total = sum(term.weight * tf.reduce_mean(term.values) for term in terms.values() if term.weight is not None)
    means = {name: float(tf.reduce_mean(term.values)) for name, term in terms.items()}
    return float(total), means, tape.gradient(total, logits)


def transport_costs(domain, epsilon=0.1, temperature=1.0):
    a_logs, b_logs = (reference.log_softmax(LOGITS[domain][head] / temperature) for head in CLASSES)
    return [reference.sinkhorn(x, y, COST, epsilon).regularized_cost for x, y in zip(a_logs, b_logs, strict=True)]


def mean_cross_entropy(domain):
    return reference.classification_loss(LABELS[domain], LOGITS[domain][domain]).mean()


def test_cross_entropy_of_indices_and_of_mixed_labels():
    logits, others = LOGITS["source"]["source"], np.roll(LABELS["source"], 1)
    own, other = (reference.classification_loss(one, logits) for one in (LABELS["source"], others))
    # float32 against float64.
    np.testing.assert_allclose(cross_entropy(tf.constant(LABELS["source"]), logits), own, rtol=1e-5)
    share = np.array([0.9, 0.5, 1.0, 0.3])
    mixed = share[:, None] * np.eye(6)[LABELS["source"]] + (1 - share)[:, None] * np.eye(6)[others]
    loss = cross_entropy(tf.constant(mixed, tf.float32), tf.cast(logits, tf.float32))
    np.testing.assert_allclose(loss, share * own + (1 - share) * other, rtol=1e-5)


@pytest.mark.parametrize("images", ["source", "target", "both"])
def test_terms_and_weights(images):
    total, means, _ = total_and_gradients(jtln(transport_images=images, source_weight=0.7, transport_weight=0.4))
    chosen = BATCHES if images == "both" else [images]
    # Over all the chosen images: the larger batch weighs more.
    transport = np.mean(sum((transport_costs(domain) for domain in chosen), []))
    expected = {f"{domain}_loss": mean_cross_entropy(domain) for domain in BATCHES} | {"transport_loss": transport}
    for name, value in expected.items():
        # float32, and the marginal error of the solver.
        assert means[name] == pytest.approx(value, rel=1e-5, abs=2 * THRESHOLD)
    in_all = expected["target_loss"] + 0.7 * expected["source_loss"] + 0.4 * transport
    assert total == pytest.approx(in_all, rel=1e-5, abs=2 * THRESHOLD)
    assert means["transport_converged"] == 1 and 0 <= means["marginal_error"] <= THRESHOLD
    # The mean over the images, each of which takes at least one.
    assert means["sinkhorn_iterations"] > 1


@pytest.mark.parametrize("images", ["source", "target", "both"])
@pytest.mark.parametrize("moved", ["source", "target", "both"])
def test_transport_moves_only_the_named_head(images, moved):
    *_, without = total_and_gradients(Joint())
    *_, gradients = total_and_gradients(jtln(transport_images=images, transport_gradient=moved, transport_weight=0.4))
    for (domain, head), gradient in gradients.items():
        before = without[domain, head]
        if images in (domain, "both") and moved in (head, "both"):
            assert np.abs(gradient - (0 if before is None else before)).max() > 1e-3
        elif gradient is not None:
            np.testing.assert_array_equal(gradient, tf.zeros_like(gradient) if before is None else before)


@pytest.mark.parametrize(
    ("options", "domain", "head"),
    [
        ({"transport_gradient": "both"}, "source", "source"),
        ({"transport_gradient": "target", "transport_temperature": 2.0}, "source", "target"),
        ({"transport_gradient": "both", "transport_images": "both"}, "target", "source"),
        ({"transport_source_marginal": "label"}, "source", "target"),
        ({"transport_gradient": "both", "transport_marginal_penalty": 0.2}, "source", "source"),
    ],
)
def test_gradient_agrees_with_central_differences(options, domain, head):
    method = jtln(transport_weight=0.9, **options)
    *_, gradients = total_and_gradients(method)
    direction = np.random.default_rng(1).normal(size=LOGITS[domain][head].shape).astype("float32")
    values = []
    for step in (1e-2, -1e-2):
        given = outputs()
        moved = tf.constant(LOGITS[domain][head] + step * direction)
        given[domain] = dataclasses.replace(given[domain], **{head: moved})
        values.append(total_and_gradients(method, given)[0])
    numeric = (values[0] - values[1]) / 2e-2
    # Values of float32 (1e-7) and of the solver (1e-6 here) over a step of 2e-2, and its square.
    slope = (gradients[domain, head] * direction).numpy().sum()
    np.testing.assert_allclose(slope, numeric, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("share", [1.0, 0.7])
def test_label_as_the_source_marginal(smoothing, share):
    method = jtln(transport_source_marginal="label", transport_label_smoothing=smoothing)
    mixed = share * np.eye(6)[LABELS["source"]] + (1 - share) * np.eye(6)[np.roll(LABELS["source"], 1)]
    given = labels()
    if share < 1:
        given["source"] = tf.constant(mixed, tf.float32)
    _, means, gradients = total_and_gradients(method, given_labels=given)
    a, b = (1 - smoothing) * mixed + smoothing / 6, reference.softmax(LOGITS["source"]["target"])
    expected = [reference.sinkhorn_of_masses(x, y, COST, 0.1).regularized_cost for x, y in zip(a, b, strict=True)]
    assert means["transport_loss"] == pytest.approx(np.mean(expected), abs=2 * THRESHOLD)
    assert np.isfinite(gradients["source", "target"]).all()


@pytest.mark.parametrize("options", [{"epsilon": 1.0}, {"epsilon": 0.05}, {"transport_temperature": 3.0}])
def test_options_reach_the_solver(options):
    solved = solve_transport(jtln(**options), None, outputs()["source"], tf.constant(COST))
    temperature = options.get("transport_temperature", 1.0)
    expected = transport_costs("source", options.get("epsilon", 0.1), temperature)
    np.testing.assert_allclose(solved.regularized_cost, expected, rtol=1e-5, atol=2 * THRESHOLD)
    few = jtln(epsilon=0.01, sinkhorn_max_iterations=10, sinkhorn_threshold=1e-6)
    assert solve_transport(few, None, outputs()["source"], tf.constant(COST)).n_iters.numpy().max() == 10


@pytest.mark.parametrize("options", [{}, {"transport_source_marginal": "label"}])
def test_a_penalty_in_place_of_the_marginals(options):
    method = jtln(transport_marginal_penalty=0.3, transport_label_smoothing=0.2, **options)
    solved = solve_transport(method, labels()["source"], outputs()["source"], tf.constant(COST))
    a, b = (reference.log_softmax(LOGITS["source"][head]) for head in CLASSES)
    a = np.log(0.8 * np.eye(6)[LABELS["source"]] + 0.2 / 6) if options else a
    expected = [reference.unbalanced_sinkhorn(x, y, COST, 0.1, 0.3, 0.3) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(solved.regularized_cost, [one.regularized_cost for one in expected], atol=2 * THRESHOLD)
    with pytest.raises(InputError, match="`transport_marginal_penalty` must be 0 or at least 1e-06. Received: 1e-40"):
        jtln(transport_marginal_penalty=1e-40)
    # It is worth its price to miss the masses.
    assert np.abs(solved.plan().numpy().sum(axis=2) - np.exp(a)).sum(axis=1).min() > 0.05


@pytest.mark.parametrize(
    ("method", "given", "has_costs", "trust"),
    [
        (jtln(transport_weight=0.0), None, 1.0, 1.0),
        (jtln(), ("target",), 1.0, 1.0),
        (jtln(), None, 0.0, 1.0),
        (jtln(), None, 1.0, 0.0),
    ],
)
def test_transport_is_not_solved_in_vain(method, given, has_costs, trust, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("solved")

    monkeypatch.setattr("jtln_tf.methods.jtln.transport.solve_transport", refuse)
    given = given or tuple(BATCHES)
    terms = method.losses(labels(*given), outputs(*given), moment(has_costs=has_costs, trust=trust))
    for domain in given:
        assert float(tf.reduce_mean(terms[f"{domain}_loss"].values)) == pytest.approx(mean_cross_entropy(domain), 1e-5)
    # Until it sets in the names are there, so that every step has the same.
    is_skipped = has_costs == 0 or trust == 0
    assert ("transport_loss" in terms) == is_skipped
    assert not is_skipped or float(tf.reduce_sum(terms["transport_loss"].values)) == 0


def test_transport_sets_in_and_ramps_up():
    method = jtln(transport_weight=0.8, transport_start_step=3, transport_ramp_steps=4)
    weights = [float(method.losses(labels(), outputs(), moment(step))["transport_weight"].values) for step in range(9)]
    assert weights == pytest.approx([0, 0, 0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_extreme_logits_stay_finite():
    given = {
        domain: dataclasses.replace(one, source=1e4 * one.source, target=1e4 * one.target)
        for domain, one in outputs().items()
    }
    for marginal in ("prediction", "label"):
        method = jtln(transport_source_marginal=marginal, transport_label_smoothing=0.0)
        total, means, gradients = total_and_gradients(method, given)
        assert np.isfinite([total, *means.values()]).all()
        assert all(np.isfinite(gradient).all() for gradient in gradients.values() if gradient is not None)


def make_means(steps=7, shares=False):
    """The class means of a state, and the same sums in NumPy."""
    rng = np.random.default_rng(0)
    image = keras.Input((2,), name="image")
    heads = {"source": keras.layers.Dense(4)(image), "target": keras.layers.Dense(3)(image)}
    state = TransportState(keras.Model(image, heads), memory_steps=5)
    sums, counts = np.zeros((3, 4)), np.zeros((3, 1))
    for _ in range(steps):
        logits, given = rng.normal(size=(6, 4)), rng.integers(0, 2, 6)
        weights = np.pad(rng.dirichlet([1, 1], 6), ((0, 0), (0, 1))) if shares else np.eye(3)[given]
        sums = 0.8 * sums + weights.T @ reference.softmax(logits)
        counts = 0.8 * counts + weights.sum(0)[:, None]
        given = tf.constant(weights, tf.float32) if shares else tf.constant(given)
        of_target = Outputs(tf.zeros([6, 2]), tf.constant(logits, tf.float32), tf.zeros([6, 3]))
        state.observe({"target": given}, {"target": of_target})
    return state.class_means["target"].numpy(), sums[:2] / counts[:2]


@pytest.mark.parametrize("shares", [False, True])
def test_class_means_are_weighted_means_of_what_passed(shares):
    found, expected = make_means(shares=shares)
    np.testing.assert_allclose(found[:2], expected, rtol=1e-5)
    # Of the third class nothing was seen.
    assert np.isnan(found[2]).all()


def test_an_image_weighs_what_its_source_class_does():
    state = Costs()
    state.source_weights = tf.constant([0.0, 0.5, 1.0, 0.25])
    logits = Outputs(tf.zeros([2, 1]), tf.constant([[0.0, 0.0, 50.0, 0.0], [0.0] * 4]), tf.zeros([2, 3]))
    np.testing.assert_allclose(image_weights(state, tf.constant([3, 1]), "source", logits), [0.25, 0.5])
    mixed = tf.constant([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    np.testing.assert_allclose(image_weights(state, mixed, "source", logits), [0.25, 1.0])
    # A target image has no source label: what the source head says of it stands for one.
    np.testing.assert_allclose(image_weights(state, tf.constant([0, 1]), "target", logits), [1.0, 1.75 / 4], rtol=1e-5)
