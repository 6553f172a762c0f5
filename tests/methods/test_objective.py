import dataclasses

import numpy as np
import pytest
import reference
import tensorflow as tf

from jtln_tf.config import ObjectiveConfig
from jtln_tf.methods.jtln.objective import LabelledLogits, classification_loss, joint_loss, transport_loss

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


def settings(**options):
    return ObjectiveConfig(**{"sinkhorn_threshold": THRESHOLD, "epsilon": 0.1, **options})


def predictions(*domains):
    return {
        domain: LabelledLogits(
            labels=tf.constant(LABELS[domain]),
            source=tf.constant(LOGITS[domain]["source"]),
            target=tf.constant(LOGITS[domain]["target"]),
        )
        for domain in domains or BATCHES
    }


def loss_and_gradients(config, transport_weight, batch=None, **options):
    """The loss, its parts, and the gradient of each head's logits of each domain."""
    batch = batch or predictions()
    logits = {(domain, head): getattr(batch[domain], head) for domain in batch for head in CLASSES}
    with tf.GradientTape() as tape:
        tape.watch(logits)
        total, parts = joint_loss(batch, COST, config, transport_weight, **options)
    return total, parts, tape.gradient(total, logits)


def transport_costs(domain, epsilon=0.1, temperature=1.0, a=None):
    a_logs = reference.log_softmax(LOGITS[domain]["source"] / temperature) if a is None else np.log(a)
    b_logs = reference.log_softmax(LOGITS[domain]["target"] / temperature)
    return [reference.sinkhorn(x, y, COST, epsilon).regularized_cost for x, y in zip(a_logs, b_logs, strict=True)]


def mean_classification_loss(domain):
    return reference.classification_loss(LABELS[domain], LOGITS[domain][domain]).mean()


def test_classification_loss_of_each_image():
    for domain in BATCHES:
        loss = classification_loss(LABELS[domain], LOGITS[domain][domain])
        expected = reference.classification_loss(LABELS[domain], LOGITS[domain][domain])
        # float32 against float64.
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_classification_loss_of_mixed_labels_is_the_mix_of_the_losses():
    logits, others = LOGITS["source"]["source"], np.roll(LABELS["source"], 1)
    weights = np.array([0.9, 0.5, 1.0, 0.3])
    mixed = weights[:, None] * np.eye(6)[LABELS["source"]] + (1 - weights)[:, None] * np.eye(6)[others]
    expected = weights * reference.classification_loss(LABELS["source"], logits)
    expected += (1 - weights) * reference.classification_loss(others, logits)
    np.testing.assert_allclose(classification_loss(mixed.astype("float32"), logits), expected, rtol=1e-5)


@pytest.mark.parametrize("marginal", ["prediction", "label"])
def test_certain_probabilities_are_as_good_as_labels(marginal):
    config = settings(transport_source_marginal=marginal, transport_images="source")
    certain = {
        domain: dataclasses.replace(one, labels=tf.one_hot(one.labels, CLASSES[domain]))
        for domain, one in predictions().items()
    }
    total, parts, gradients = loss_and_gradients(config, 0.4, certain)
    expected_total, expected_parts, expected_gradients = loss_and_gradients(config, 0.4)
    np.testing.assert_allclose(total, expected_total, rtol=1e-5)
    for name, part in expected_parts.items():
        np.testing.assert_allclose(parts[name], part, rtol=1e-5, atol=1e-6)
    for key, gradient in expected_gradients.items():
        if gradient is not None:
            np.testing.assert_allclose(gradients[key], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_label_as_the_source_marginal(smoothing):
    config = settings(transport_source_marginal="label", transport_label_smoothing=smoothing)
    mixed = 0.7 * np.eye(6)[LABELS["source"]] + 0.3 * np.eye(6)[np.roll(LABELS["source"], 1)]
    batch = predictions()
    batch["source"] = dataclasses.replace(batch["source"], labels=tf.constant(mixed, tf.float32))
    _, parts = joint_loss(batch, COST, config, 0.4)
    a, b = (1 - smoothing) * mixed + smoothing / 6, reference.softmax(LOGITS["source"]["target"])
    expected = [reference.sinkhorn_of_masses(x, y, COST, 0.1).regularized_cost for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(parts["transport_loss"], np.mean(expected), rtol=0, atol=2 * THRESHOLD)


def test_classification_loss_of_half_precision_is_float32():
    loss = classification_loss(LABELS["source"], tf.cast(LOGITS["source"]["source"], tf.float16))
    assert loss.dtype == tf.float32


@pytest.mark.parametrize("images", ["source", "target", "both"])
def test_terms_and_weights(images):
    config = settings(transport_images=images, source_weight=0.7)
    total, parts = joint_loss(predictions(), COST, config, 0.4)
    chosen = BATCHES if images == "both" else [images]
    # Over all the chosen images: the larger batch weighs more.
    transport = np.mean(sum((transport_costs(domain) for domain in chosen), []))
    expected = {
        "target_loss": mean_classification_loss("target"),
        "source_loss": mean_classification_loss("source"),
        "transport_loss": transport,
    }
    for name, value in expected.items():
        # float32, and the marginal error of the solver.
        np.testing.assert_allclose(parts[name], value, rtol=1e-5, atol=2 * THRESHOLD)
    in_all = expected["target_loss"] + 0.7 * expected["source_loss"] + 0.4 * transport
    np.testing.assert_allclose(total, in_all, rtol=1e-5, atol=2 * THRESHOLD)
    assert set(parts) == {*expected, "sinkhorn_iterations", "marginal_error", "transport_converged"}
    assert parts["transport_converged"] == 1 and 0 <= parts["marginal_error"] <= THRESHOLD
    assert parts["sinkhorn_iterations"] >= 10


@pytest.mark.parametrize("images", ["source", "target", "both"])
@pytest.mark.parametrize("moved", ["source", "target", "both"])
def test_transport_moves_only_the_named_head(images, moved):
    options = {"transport_images": images, "transport_gradient": moved}
    *_, without = loss_and_gradients(settings(**options), 0.0)
    *_, gradients = loss_and_gradients(settings(**options), 0.4)
    for (domain, head), gradient in gradients.items():
        before = without[domain, head]
        before = tf.zeros_like(gradient) if before is None and gradient is not None else before
        is_moved = images in (domain, "both") and moved in (head, "both")
        if is_moved:
            assert np.abs(gradient - before).max() > 1e-3
        elif gradient is not None:
            np.testing.assert_array_equal(gradient, before)
        else:
            assert before is None


@pytest.mark.parametrize(
    ("options", "moved"),
    [
        ({"transport_gradient": "both"}, ("source", "source")),
        ({"transport_gradient": "both"}, ("source", "target")),
        ({"transport_gradient": "target", "transport_temperature": 2.0}, ("source", "target")),
        ({"transport_gradient": "both", "transport_images": "both"}, ("target", "source")),
        ({"transport_source_marginal": "label"}, ("source", "target")),
    ],
)
def test_gradient_agrees_with_central_differences(options, moved):
    config = settings(**options)
    domain, head = moved
    *_, gradients = loss_and_gradients(config, 0.9)
    direction = np.random.default_rng(1).normal(size=LOGITS[domain][head].shape).astype("float32")
    values = []
    for step in (1e-2, -1e-2):
        batch = predictions()
        batch[domain] = dataclasses.replace(batch[domain], **{head: LOGITS[domain][head] + step * direction})
        values.append(joint_loss(batch, COST, config, 0.9)[0].numpy())
    numeric = (values[0] - values[1]) / 2e-2
    # Values of float32 (1e-7) and of the solver (1e-6 here) over a step of 2e-2, and its square.
    np.testing.assert_allclose((gradients[moved] * direction).numpy().sum(), numeric, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_label_as_the_source_marginal(smoothing):
    config = settings(transport_source_marginal="label", transport_label_smoothing=smoothing)
    _, parts, gradients = loss_and_gradients(config, 0.4)
    a = (1 - smoothing) * np.eye(6)[LABELS["source"]] + smoothing / 6
    b = reference.softmax(LOGITS["source"]["target"])
    expected = [reference.sinkhorn_of_masses(x, y, COST, 0.1).regularized_cost for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(parts["transport_loss"], np.mean(expected), rtol=0, atol=2 * THRESHOLD)
    assert np.isfinite(gradients["source", "target"]).all()
    *_, without = loss_and_gradients(config, 0.0)
    np.testing.assert_array_equal(gradients["source", "source"], without["source", "source"])


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_temperature_softens_both_sides(temperature):
    _, parts = joint_loss(predictions(), COST, settings(transport_temperature=temperature), 1.0)
    expected = np.mean(transport_costs("source", temperature=temperature))
    np.testing.assert_allclose(parts["transport_loss"], expected, rtol=0, atol=2 * THRESHOLD)
    # The classification does not see it.
    np.testing.assert_allclose(parts["source_loss"], mean_classification_loss("source"), rtol=1e-5)


@pytest.mark.parametrize("epsilon", [0.05, 1.0])
def test_epsilon_reaches_the_solver(epsilon):
    output = transport_loss(predictions()["source"], COST, settings(epsilon=epsilon))
    expected = transport_costs("source", epsilon)
    np.testing.assert_allclose(output.regularized_cost, expected, rtol=1e-5, atol=2 * THRESHOLD)


def test_iterations_and_threshold_reach_the_solver():
    few = settings(epsilon=0.01, sinkhorn_max_iterations=10, sinkhorn_threshold=1e-6)
    _, parts = joint_loss(predictions(), COST, few, 1.0)
    assert parts["sinkhorn_iterations"] == 10
    assert parts["transport_converged"] < 1 and parts["marginal_error"] > 1e-6


@pytest.mark.parametrize("config", [settings(transport_weight=0.0), settings()])
def test_weight_zero_does_not_solve(config, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("solved")

    monkeypatch.setattr("jtln_tf.methods.jtln.objective.transport_loss", refuse)
    total, parts = joint_loss(predictions(), COST, config, 0.0)
    expected = mean_classification_loss("target") + mean_classification_loss("source")
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    if config.transport_weight:
        # Not begun yet: the names are there, so that every step has the same.
        assert parts["transport_loss"] == 0 and parts["sinkhorn_iterations"] == 0
    else:
        assert set(parts) == {"target_loss", "source_loss"}


@pytest.mark.parametrize("domain", ["source", "target"])
def test_missing_domain_leaves_its_terms_out(domain):
    total, parts = joint_loss(predictions(domain), COST, settings(source_weight=0.7), 0.4)
    weight = {"source": 0.7, "target": 1.0}[domain]
    np.testing.assert_allclose(total, weight * mean_classification_loss(domain), rtol=1e-5)
    assert set(parts) == {f"{domain}_loss"}


def test_shares_of_the_replicas_sum_to_the_loss():
    config = settings(transport_images="both", transport_gradient="both", source_weight=0.7)
    halves = [slice(0, 2), slice(2, 4)]

    def take(rows):
        # The target has 3 images: each replica gets the first two or the last two.
        taken = {"source": rows, "target": slice(0, 2) if rows.start == 0 else slice(1, 3)}
        return {
            domain: LabelledLogits(
                tf.constant(LABELS[domain][taken[domain]]),
                *(tf.constant(LOGITS[domain][head][taken[domain]]) for head in CLASSES),
            )
            for domain in BATCHES
        }

    shares = [loss_and_gradients(config, 0.4, take(rows), num_replicas=2) for rows in halves]
    whole_batch = {
        domain: LabelledLogits(
            *(tf.concat([getattr(take(rows)[domain], field) for rows in halves], 0) for field in ("labels", *CLASSES))
        )
        for domain in BATCHES
    }
    total, parts, gradients = loss_and_gradients(config, 0.4, whole_batch)
    # float32; the solver stops by the worst image of a batch.
    np.testing.assert_allclose(sum(share for share, *_ in shares), total, rtol=1e-5, atol=THRESHOLD)
    np.testing.assert_allclose(
        np.mean([one["transport_loss"] for _, one, _ in shares]), parts["transport_loss"], rtol=0, atol=THRESHOLD
    )
    for key, gradient in gradients.items():
        np.testing.assert_allclose(tf.concat([g[key] for *_, g in shares], 0), gradient, rtol=0, atol=1e-4)


def test_half_precision_logits():
    batch = {
        domain: dataclasses.replace(one, source=tf.cast(one.source, tf.float16), target=tf.cast(one.target, tf.float16))
        for domain, one in predictions().items()
    }
    total, parts, gradients = loss_and_gradients(settings(), 0.4, batch)
    assert total.dtype == tf.float32 and parts["transport_loss"].dtype == tf.float32
    assert gradients["source", "target"].dtype == tf.float16
    # float16 has 3 digits.
    np.testing.assert_allclose(total, joint_loss(predictions(), COST, settings(), 0.4)[0], rtol=2e-3)


def test_extreme_logits_stay_finite():
    batch = predictions()
    for domain in batch:
        batch[domain] = dataclasses.replace(
            batch[domain], source=1e4 * batch[domain].source, target=1e4 * batch[domain].target
        )
    for marginal in ("prediction", "label"):
        config = settings(transport_source_marginal=marginal, transport_label_smoothing=0.0)
        total, parts, gradients = loss_and_gradients(config, 0.4, batch)
        assert np.isfinite(total) and all(np.isfinite(part) for part in parts.values())
        assert all(np.isfinite(gradient).all() for gradient in gradients.values() if gradient is not None)


@pytest.mark.parametrize("weight", [0.0, 0.4])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_inside_a_function(weight, as_tensor):
    config = settings(transport_images="both")

    @tf.function
    def step(batch, weight):
        logits = batch["source"].target
        with tf.GradientTape() as tape:
            tape.watch(logits)
            total, parts = joint_loss(batch, COST, config, weight)
        return total, parts, tape.gradient(total, logits)

    given = tf.constant(weight) if as_tensor else weight
    total, parts, gradient = step(predictions(), given)
    expected_total, expected_parts, expected_gradients = loss_and_gradients(config, weight)
    # The compiler may fuse float32 sums.
    np.testing.assert_allclose(total, expected_total, rtol=1e-5)
    for name, part in expected_parts.items():
        np.testing.assert_allclose(parts[name], part, rtol=1e-4, atol=1e-6)
    if expected_gradients["source", "target"] is not None:
        np.testing.assert_allclose(gradient, expected_gradients["source", "target"], rtol=1e-4, atol=1e-6)
