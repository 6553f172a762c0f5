import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import jtln_tf as jt
from jtln_tf.config import InputError
from jtln_tf.methods import METHODS, Method, Stage, Term
from jtln_tf.methods.base import plan_stages
from jtln_tf.network import backbone_variables, head_variables
from tests.trainer.conftest import SHAPE, make_batch, make_costs, make_network, make_pairs, values_of


def make_model(optimizer=None, network=None, **options):
    compiled = {name: options.pop(name) for name in ("backbone_optimizer", "clip_norm") if name in options}
    model = jt.JointModel(network or make_network(), **{"cost_matrix": make_costs(), **options})
    model.compile(optimizer or keras.optimizers.SGD(0.0), **compiled)
    return model


def history_of(model, pairs=None, **options):
    return model.fit(make_pairs() if pairs is None else pairs, verbose=0, **{"steps_per_epoch": 1, **options}).history


def test_fit_trains_the_network_passed_in_on_batches_of_both_domains():
    network = make_network()
    model = make_model(keras.optimizers.Adam(1e-2), network, transport_weight=0.3)
    history = history_of(model, epochs=5, steps_per_epoch=20)
    assert history["target_loss"][-1] < 0.5 * history["target_loss"][0]
    assert history["source_loss"][-1] < 0.8 * history["source_loss"][0]
    # The network itself was trained, not a copy.
    images, labels = make_batch()["target"]
    assert (np.argmax(network(images)["target"], 1) == labels.numpy()).all()
    assert int(model.steps_seen.numpy()) == 100


def test_loss_is_the_weighted_sum_of_its_logged_terms():
    logs = {name: value[0] for name, value in history_of(make_model(transport_weight=0.7, source_weight=0.4)).items()}
    expected = logs["target_loss"] + 0.4 * logs["source_loss"] + 0.7 * logs["transport_loss"]
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_model_is_whole_before_its_first_step(tmp_path):
    images = make_batch()["target"][0]
    model = make_model()
    model.predict(images, verbose=0)
    model.build((None, *SHAPE))
    callbacks = [
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        keras.callbacks.ModelCheckpoint(tmp_path / "x.weights.h5", save_weights_only=True),
    ]
    history_of(model, make_pairs(("source",)))
    history = history_of(model, validation_data=make_pairs().take(2), callbacks=callbacks)
    model.save_weights(tmp_path / "y.weights.h5")
    assert {"target_train_accuracy", "val_target_accuracy", "val_loss"} <= set(history)
    # Nothing was trained or dropped: validation sees what training saw.
    assert history["val_loss"] == pytest.approx(history["loss"], rel=1e-5)
    with pytest.raises(InputError, match="`class_weight` must not be given"):
        history_of(model, class_weight={0: 2.0})


@pytest.mark.parametrize(
    "change",
    [lambda y: tf.cast(y, tf.uint8)[:, None], lambda y: tf.cast(y, tf.float32), lambda y: tf.cast(y, tf.int64)],
)
def test_labels_of_any_whole_numbers(change):
    pairs = make_pairs().map(lambda pair: {side: (images, change(labels)) for side, (images, labels) in pair.items()})
    assert history_of(make_model(), pairs) == history_of(make_model())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pair: {"Source": pair["source"], "target": pair["target"]}, r"keys source and target.*'Source'"),
        (lambda pair: {"target": pair["target"][0]}, r"target part of a batch must be \(images, labels\)"),
        (lambda pair: {"target": (pair["target"][0], tf.zeros([2, 3]))}, r"probabilities \[B, 2\].*\[2, 3\]"),
        (lambda pair: {"target": (pair["target"][0], tf.constant(["a", "b"]))}, "whole numbers. Received: string"),
        (lambda pair: {"target": (pair["target"][0], tf.constant([0.5, 1]))}, "Labels must be whole numbers"),
    ],
)
def test_batches_that_do_not_fit_are_refused(change, message):
    with pytest.raises((InputError, tf.errors.InvalidArgumentError), match=message):
        history_of(make_model(), make_pairs().map(change))


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_nothing_counts_beyond_the_end_of_the_data(steps_per_execution):
    model = make_model()
    model.compile(keras.optimizers.SGD(0.0), steps_per_execution=steps_per_execution)
    # Of unknown length: the end is found by reaching it.
    model.fit(make_pairs().take(4).filter(lambda pair: True), epochs=2, verbose=0)
    assert int(model.steps_seen.numpy()) == int(model.optimizer.iterations.numpy()) == 8


def test_mixed_labels_train_and_count_for_the_class_with_the_larger_share():
    expected, found = history_of(make_model()), {}
    for share in (1.0, 0.6):
        mixed = {
            name: (images, share * tf.one_hot(labels, classes) + (1 - share) / classes)
            for (name, (images, labels)), classes in zip(make_batch().items(), (3, 2), strict=True)
        }
        found[share] = history_of(make_model(), tf.data.Dataset.from_tensors(mixed))
    for side in ("source", "target"):
        assert found[0.6][f"{side}_train_accuracy"] == expected[f"{side}_train_accuracy"]
        np.testing.assert_allclose(found[1.0][f"{side}_loss"], expected[f"{side}_loss"], rtol=1e-5)
        assert abs(found[0.6][f"{side}_loss"][0] - expected[f"{side}_loss"][0]) > 1e-3


@pytest.mark.parametrize("backbone_optimizer", [None, keras.optimizers.AdamW])
@pytest.mark.parametrize(("domains", "untouched"), [(("source",), "target"), (("target",), "source")])
def test_a_batch_of_one_domain_leaves_the_other_head_as_it_is(domains, untouched, backbone_optimizer):
    model = make_model(
        keras.optimizers.AdamW(1e-2, weight_decay=0.1),
        backbone_optimizer=backbone_optimizer and backbone_optimizer(1e-2),
    )
    before = model.network.get_layer(f"{untouched}_logits").get_weights()
    history_of(model, make_pairs(domains), steps_per_epoch=3)
    for old, new in zip(before, model.network.get_layer(f"{untouched}_logits").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_backbone_and_heads_follow_their_own_optimizers():
    def moves(backbone_rate, head_rate):
        backbone_optimizer = keras.optimizers.SGD(backbone_rate)
        model = make_model(keras.optimizers.SGD(head_rate), backbone_optimizer=backbone_optimizer)
        assert model.learning_rates() == pytest.approx({"head": head_rate, "backbone": backbone_rate})
        parts = (backbone_variables(model.network), head_variables(model.network))
        before = [values_of(part) for part in parts]
        history_of(model)
        return [
            np.concatenate([(new - old).ravel() for new, old in zip(values_of(part), olds, strict=True)])
            for part, olds in zip(parts, before, strict=True)
        ]

    slow_backbone, slow_heads = moves(0.01, 0.02)
    fast_backbone, same_heads = moves(0.05, 0.02)
    # Plain gradient descent moves in proportion to the rate; the tolerance is float32 rounding of the weights.
    np.testing.assert_allclose(fast_backbone, 5 * slow_backbone, atol=1e-6)
    np.testing.assert_allclose(slow_heads, same_heads, atol=1e-7)


def test_clip_norm_bounds_the_step_over_all_variables():
    one = keras.optimizers.SGD(1.0)
    model = make_model(keras.optimizers.SGD(1.0), backbone_optimizer=one, clip_norm=1e-3)
    before = values_of(model.network.trainable_variables)
    history_of(model)
    moves = [new - old for new, old in zip(values_of(model.network.trainable_variables), before, strict=True)]
    # float32 rounding of the weights (about 1e-8 each) is far below the bound.
    assert math.sqrt(sum((move**2).sum() for move in moves)) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("scale", ["factor", "mixed_float16"])
def test_a_scaled_loss_trains_as_an_unscaled_one(scale):
    def train(**options):
        model = make_model(keras.optimizers.SGD(0.05, **options), clip_norm=0.5)
        return history_of(model, epochs=3, steps_per_epoch=4)["loss"]

    expected = train()
    if scale == "factor":
        np.testing.assert_allclose(train(loss_scale_factor=1024.0), expected, rtol=1e-5)
        return
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        # float16 has 3 digits.
        np.testing.assert_allclose(train(), expected, rtol=1e-2)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_costs_that_do_not_fit_are_refused():
    costs = make_costs()
    wrong = dataclasses.replace(costs, values=costs.values[:2], source_classes=("a", "b"))
    with pytest.raises(InputError, match=r"\[num_source_classes, num_target_classes\] = \[3, 2\].*\[2, 2\]"):
        jt.JointModel(make_network(), cost_matrix=wrong)
    with pytest.raises(InputError, match="`cost_matrix` must not be given to a method without class costs"):
        jt.JointModel(make_network(), method=METHODS["joint"](), cost_matrix=costs)
    with pytest.raises(InputError, match="must only hold the options .*Received: transport_wait"):
        jt.JointModel(make_network(), transport_wait=1.0)


@dataclasses.dataclass(frozen=True)
class Asking(Method):
    """Learns from a teacher, a second view and a layer, with a variable of its own."""

    name = "asking"
    title = "asking"
    reports = ("teacher_loss", "view_loss", "layer_loss")
    uses_teacher = True
    uses_second_view = True

    def stages(self, steps):
        return plan_stages(("all", ("source", "target"), steps))

    def watched_layers(self, network):
        return (network.get_layer("backbone").layers[-1].name,)

    def make_state(self, network, cost=None):
        state = keras.layers.Layer(name="asking")
        state.factor = state.add_weight(shape=(), initializer="ones", name="factor")
        return state

    def losses(self, labels, outputs, moment):
        one = outputs["target"]
        (layer,) = one.layers.values()
        return {
            "teacher_loss": Term(tf.reduce_sum(tf.square(one.target - one.teacher.target), 1)),
            "view_loss": Term(tf.reduce_sum(tf.square(one.features - one.second.features), 1) * moment.state.factor),
            "layer_loss": Term(tf.reduce_sum(tf.square(layer - one.features), 1), None),
        }


def test_a_method_may_ask_for_a_teacher_a_second_view_a_layer_and_variables():
    network = make_network()
    model = make_model(keras.optimizers.SGD(0.1), network, method=Asking(), cost_matrix=None)
    images, labels = make_batch()["target"]
    pairs = tf.data.Dataset.from_tensors({"target": (images, labels, 255 - images)}).repeat()
    expected = np.square(network.get_layer("backbone")(images) - network.get_layer("backbone")(255 - images)).sum(1)
    first = history_of(model, pairs)
    # The teacher is the network as it was when the model was made.
    assert first["teacher_loss"] == first["layer_loss"] == [0.0]
    assert first["view_loss"][0] == pytest.approx(expected.mean(), rel=1e-4)
    assert float(model.method_state.factor.numpy()) != 1
    assert history_of(model, pairs)["teacher_loss"][0] > 0
    model.begin_stage(Stage("next", 1, ("target",)))
    assert history_of(model, pairs)["teacher_loss"] == [0.0]
    with pytest.raises(InputError, match=r"\(images, labels, second images\)"):
        history_of(model)
