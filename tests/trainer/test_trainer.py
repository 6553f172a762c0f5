import math
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import jtln_tf as jt
from jtln_tf.config import NonFiniteLossError, TrainingConfig
from jtln_tf.costs import CostMatrix
from jtln_tf.methods.jtln.class_means import ClassMeans
from jtln_tf.network import backbone_variables, head_variables
from jtln_tf.trainer import Checkpoints, TrainingState, build_optimizer, plan_stages, train_stage
from jtln_tf.trainer.callbacks import RefreshCosts, StepCounter, ValidateAndSave
from jtln_tf.trainer.checkpoints import restore_network, restore_state
from jtln_tf.trainer.stages import Stage, compile_for_stage

SHAPE = (8, 8, 1)


def make_network(seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input(SHAPE)
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.Dense(6, activation="relu")(x)
    return jt.build_network(keras.Model(image, x), 3, 2, image_shape=SHAPE)


def make_batch(seed=0, source=4, target=2):
    rng = np.random.default_rng(seed)
    return {
        "source": (
            tf.constant(rng.uniform(0, 255, (source, *SHAPE)), tf.float32),
            tf.constant(rng.integers(0, 3, source), tf.int32),
        ),
        "target": (
            tf.constant(rng.uniform(0, 255, (target, *SHAPE)), tf.float32),
            tf.constant(rng.integers(0, 2, target), tf.int32),
        ),
    }


def make_pairs(domains=("source", "target")):
    batch = make_batch()
    return tf.data.Dataset.from_tensors({name: batch[name] for name in domains}).repeat()


def make_costs(value=1.0):
    return CostMatrix(np.full((3, 2), value) * np.arange(6).reshape(3, 2) / 6, ("a", "b", "c"), ("d", "e"))


def values_of(variables):
    return [variable.numpy().copy() for variable in variables]


def test_fit_trains_the_network_passed_in_on_batches_of_both_domains():
    network = make_network()
    model = jt.JointModel(network, cost_matrix=make_costs(), transport_weight=0.3, source_weight=1.0)
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    history = model.fit(make_pairs(), epochs=5, steps_per_epoch=20, verbose=0).history
    assert {"loss", "target_loss", "source_loss", "transport_loss", "marginal_error"} <= set(history)
    assert history["target_loss"][-1] < 0.5 * history["target_loss"][0]
    assert history["source_loss"][-1] < 0.8 * history["source_loss"][0]
    # The network itself was trained, not a copy.
    (images, labels) = make_batch()["target"]
    assert (np.argmax(network(images)["target"], 1) == labels.numpy()).all()


def test_loss_is_the_weighted_sum_of_its_logged_terms():
    model = jt.JointModel(make_network(), cost_matrix=make_costs(), transport_weight=0.7, source_weight=0.4)
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    logs = {name: float(value) for name, value in model.train_step(make_batch()).items()}
    expected = logs["target_loss"] + 0.4 * logs["source_loss"] + 0.7 * logs["transport_loss"]
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("domains", "untouched"), [(("source",), "target"), (("target",), "source")])
def test_a_stage_on_one_domain_leaves_the_other_head_as_it_is(domains, untouched):
    network = make_network()
    model = jt.JointModel(network, cost_matrix=make_costs())
    model.compile(optimizer=keras.optimizers.AdamW(1e-2, weight_decay=0.1))
    before = network.get_layer(f"{untouched}_logits").get_weights()
    model.fit(make_pairs(domains), steps_per_epoch=3, verbose=0)
    for old, new in zip(before, network.get_layer(f"{untouched}_logits").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_backbone_and_heads_follow_their_own_optimizers():
    def step(backbone_rate, head_rate):
        network = make_network()
        model = jt.JointModel(network, cost_matrix=make_costs())
        model.compile(keras.optimizers.SGD(head_rate), backbone_optimizer=keras.optimizers.SGD(backbone_rate))
        parts = (backbone_variables(network), head_variables(network))
        before = [values_of(part) for part in parts]
        model.train_step(make_batch())
        return [
            [new - old for new, old in zip(values_of(part), olds, strict=True)]
            for part, olds in zip(parts, before, strict=True)
        ]

    slow_backbone, slow_heads = step(0.01, 0.02)
    fast_backbone, same_heads = step(0.05, 0.02)
    for slow, fast in zip(slow_backbone, fast_backbone, strict=True):
        # Plain gradient descent moves in proportion to the rate; the tolerance is float32 rounding of the weights.
        np.testing.assert_allclose(fast, 5 * slow, atol=1e-6)
    for first, second in zip(slow_heads, same_heads, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-7)


def test_clip_norm_bounds_the_step_over_all_variables():
    network = make_network()
    model = jt.JointModel(network, cost_matrix=make_costs())
    model.compile(keras.optimizers.SGD(1.0), backbone_optimizer=keras.optimizers.SGD(1.0), clip_norm=1e-3)
    before = values_of(network.trainable_variables)
    model.train_step(make_batch())
    moves = [new - old for new, old in zip(values_of(network.trainable_variables), before, strict=True)]
    # float32 rounding of the weights (about 1e-8 each) is far below the bound.
    assert math.sqrt(sum((move**2).sum() for move in moves)) == pytest.approx(1e-3, rel=1e-2)


def test_transport_sets_in_and_ramps_up():
    model = jt.JointModel(
        make_network(), cost_matrix=make_costs(), transport_weight=0.8, transport_start_step=3, transport_ramp_steps=4
    )
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    weights, solved = [], []
    for _ in range(9):
        weights.append(float(model.transport_weight()))
        solved.append(float(model.train_step(make_batch())["sinkhorn_iterations"]) > 0)
        for metric in model.metrics:
            metric.reset_state()
    assert weights == pytest.approx([0, 0, 0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    assert solved == [False] * 3 + [True] * 6


def test_a_cost_matrix_of_another_shape_is_refused():
    costs = CostMatrix(np.zeros((2, 2)), ("a", "b"), ("d", "e"))
    with pytest.raises(ValueError, match=r"\[num_source_classes, num_target_classes\] = \[3, 2\].*\[2, 2\]"):
        jt.JointModel(make_network(), cost_matrix=costs)


@pytest.mark.parametrize("method", ["jtln", "joint", "consecutive", "target_only"])
@pytest.mark.parametrize("steps", [7, 500])
def test_every_method_takes_the_same_number_of_steps(method, steps):
    stages = plan_stages(method, steps)
    assert sum(stage.steps for stage in stages) == steps
    assert stages[0].first_step == 0
    for earlier, later in zip(stages, stages[1:], strict=False):
        assert earlier.last_step == later.first_step
    assert "target" in stages[-1].domains


def rates(optimizer_config, steps=100):
    schedule = build_optimizer(TrainingConfig(**optimizer_config), 0.1, steps)._learning_rate
    return np.array([float(schedule(step)) for step in range(steps)])


def test_cosine_schedule_with_warm_up_follows_its_formula():
    step = np.arange(100)
    expected = 0.1 * 0.5 * (1 + np.cos(np.pi * step / 100)) * np.minimum(1, (step + 1) / 10)
    np.testing.assert_allclose(rates({"schedule": "cosine", "warmup_steps": 10}), expected, atol=1e-7)


def test_step_schedule_decays_at_its_boundaries():
    expected = np.repeat([0.1, 0.01, 0.001], [50, 25, 25])
    np.testing.assert_allclose(rates({"schedule": "step"}), expected, rtol=1e-5)


def test_constant_schedule_stays():
    np.testing.assert_allclose(rates({"schedule": "constant", "optimizer": "sgd"}), 0.1, rtol=1e-6)


def test_weight_decay_spares_biases():
    network = make_network()
    optimizer = build_optimizer(TrainingConfig(weight_decay=0.5, schedule="constant"), 0.1, 10)
    optimizer.build(network.trainable_variables)
    before = values_of(network.trainable_variables)
    optimizer.apply([tf.zeros_like(v.value) for v in network.trainable_variables], network.trainable_variables)
    for variable, old in zip(network.trainable_variables, before, strict=True):
        expected = old if variable.path.endswith("bias") else old * (1 - 0.1 * 0.5)
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5)


class FakeLog:
    def __init__(self):
        self.entries = []

    def write(self, step, scalars):
        self.entries.append((step, scalars))

    def flush(self):
        pass


def train(tmp_path, accuracies, *, steps=20, patience=0, every=4):
    network, state, log = make_network(), TrainingState(), FakeLog()
    model = jt.JointModel(network, cost_matrix=make_costs())
    stage = Stage("joint", 0, steps, ("source", "target"))
    compile_for_stage(model, TrainingConfig(), stage)
    checkpoints = Checkpoints(tmp_path, model, state)
    validate = iter(accuracies).__next__
    save = ValidateAndSave(
        state, checkpoints, log, validate=validate, steps_per_epoch=every, patience=patience, last_step=steps
    )
    train_stage(model, make_pairs(), stage, first_step=0, callbacks=[StepCounter(state), save])
    return model, state, checkpoints, log


def test_validation_comes_at_every_epoch_and_at_the_end(tmp_path):
    _, state, _, log = train(tmp_path, [0.1, 0.3, 0.2], steps=10)
    assert [step for step, _ in log.entries] == [4, 8, 10]
    assert (state.best_accuracy, state.best_step, state.epochs_since_best) == (0.3, 8, 1)


def test_early_stopping_ends_training_and_the_best_network_comes_back(tmp_path):
    model, state, checkpoints, _ = train(tmp_path, [0.1, 0.5, 0.4, 0.3, 0.9], patience=2)
    assert state.step == 16
    assert state.best_step == 8
    last = values_of(model.network.variables)
    assert checkpoints.restore_best()
    best = values_of(model.network.variables)
    assert any((one != other).any() for one, other in zip(last, best, strict=True))


def test_a_checkpoint_brings_back_weights_optimizers_costs_and_state(tmp_path):
    model, state, _, _ = train(tmp_path, [0.1, 0.3], steps=8)
    expected = [values_of(model.network.variables), values_of(model.optimizer.variables)]
    expected_costs = model.cost_values.numpy()

    restored = restore_state(tmp_path)
    assert restored == state
    fresh = jt.JointModel(make_network(seed=1), cost_matrix=make_costs(value=0.5))
    compile_for_stage(fresh, TrainingConfig(), Stage("joint", 0, 8, ("source", "target")))
    assert Checkpoints(tmp_path, fresh, restored).restore_last()
    for wanted, found in zip(expected, (fresh.network.variables, fresh.optimizer.variables), strict=True):
        for old, new in zip(wanted, values_of(found), strict=True):
            np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(fresh.cost_values.numpy(), expected_costs)
    assert int(fresh.steps_seen.numpy()) == 8

    network = make_network(seed=2)
    assert restore_network(tmp_path, network)
    for old, new in zip(expected[0], values_of(network.variables), strict=True):
        np.testing.assert_array_equal(old, new)


def test_nothing_is_restored_from_an_empty_folder(tmp_path):
    assert restore_state(tmp_path) is None
    assert not restore_network(tmp_path, make_network())


def test_a_loss_that_is_not_finite_stops_training_and_names_the_term():
    network = make_network()
    kernel = network.get_layer("source_logits").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    model, state = jt.JointModel(network, transport_weight=0.0), TrainingState()
    stage = Stage("joint", 0, 5, ("source", "target"))
    compile_for_stage(model, TrainingConfig(), stage)
    with pytest.raises(NonFiniteLossError, match=r"source_loss=nan.* at step 1\."):
        train_stage(model, make_pairs(), stage, first_step=0, callbacks=[StepCounter(state)])


def test_costs_are_estimated_anew_at_their_steps():
    model, state, seen = jt.JointModel(make_network(), cost_matrix=make_costs()), TrainingState(), []

    def estimate():
        seen.append(state.step)
        return make_costs(value=float(len(seen)))

    stage = Stage("joint", 0, 12, ("source", "target"))
    compile_for_stage(model, TrainingConfig(), stage)
    refresh = RefreshCosts(state, estimate=estimate, every_steps=4, start_step=3)
    train_stage(model, make_pairs(), stage, first_step=0, callbacks=[StepCounter(state), refresh])
    assert seen == [3, 7, 11]
    np.testing.assert_allclose(model.cost_values.numpy(), make_costs(3.0).values)


def test_class_means_are_weighted_means_of_what_passed():
    rng = np.random.default_rng(0)
    means = ClassMeans(3, 4, memory_steps=5, name="means")
    sums, counts = np.zeros((3, 4)), np.zeros((3, 1))
    for _ in range(7):
        features, labels = rng.uniform(size=(6, 4)), rng.integers(0, 2, 6)
        means.update(tf.constant(features, tf.float32), tf.constant(labels))
        one_hot = np.eye(3)[labels]
        sums, counts = 0.8 * sums + one_hot.T @ features, 0.8 * counts + one_hot.sum(0)[:, None]
    np.testing.assert_allclose(means.numpy()[:2], (sums / np.maximum(counts, 1e-9))[:2], rtol=1e-5)
    # Of the third class nothing was seen.
    assert np.isnan(means.numpy()[2]).all()


def test_class_means_of_mixed_images_are_weighted_by_their_shares():
    rng = np.random.default_rng(0)
    means = ClassMeans(3, 4, memory_steps=5, name="means")
    sums, counts = np.zeros((3, 4)), np.zeros((3, 1))
    for _ in range(7):
        features, shares = rng.uniform(size=(6, 4)), rng.dirichlet([1, 1], 6)
        shares = np.pad(shares, ((0, 0), (0, 1)))
        means.update(tf.constant(features, tf.float32), tf.constant(shares, tf.float32))
        sums, counts = 0.8 * sums + shares.T @ features, 0.8 * counts + shares.sum(0)[:, None]
    np.testing.assert_allclose(means.numpy()[:2], sums[:2] / counts[:2], rtol=1e-5)
    assert np.isnan(means.numpy()[2]).all()


def test_mixed_labels_train_and_count_for_the_class_with_the_larger_share():
    model = jt.JointModel(make_network(), cost_matrix=make_costs(), class_memory_steps=1)
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    batch, logs = make_batch(), []
    for share in (1.0, 0.6):
        mixed = {
            name: (images, share * tf.one_hot(labels, classes) + (1 - share) / classes)
            for (name, (images, labels)), classes in zip(batch.items(), (3, 2), strict=True)
        }
        pairs = tf.data.Dataset.from_tensors(mixed).repeat()
        logs.append(model.fit(pairs, epochs=1, steps_per_epoch=1, verbose=0).history)
    expected = model.fit(make_pairs(), epochs=1, steps_per_epoch=1, verbose=0).history
    for side in ("source", "target"):
        assert (
            logs[0][f"{side}_train_accuracy"] == logs[1][f"{side}_train_accuracy"] == expected[f"{side}_train_accuracy"]
        )
        np.testing.assert_allclose(logs[0][f"{side}_loss"], expected[f"{side}_loss"], rtol=1e-5)
        assert abs(logs[1][f"{side}_loss"][0] - expected[f"{side}_loss"][0]) > 1e-3


def test_training_gathers_what_the_source_head_says_of_each_class():
    model = jt.JointModel(make_network(), cost_matrix=make_costs(), class_memory_steps=1)
    # With no steps of 0 size the network stays as it is, and the last batch alone is remembered.
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    model.fit(make_pairs(), epochs=1, steps_per_epoch=2, verbose=0)
    for side, (images, labels) in make_batch().items():
        says = model.network(images, training=True)["source"].numpy()
        found = model.class_means[side].numpy()
        for label in np.unique(labels):
            np.testing.assert_allclose(found[label], says[labels.numpy() == label].mean(0), rtol=1e-4, atol=1e-6)


def test_no_class_means_are_gathered_unasked():
    assert jt.JointModel(make_network(), cost_matrix=make_costs()).class_means == {}


def test_a_checkpoint_brings_back_the_class_means(tmp_path):
    def build(seed):
        model = jt.JointModel(make_network(seed=seed), cost_matrix=make_costs(), class_memory_steps=5)
        compile_for_stage(model, TrainingConfig(), Stage("joint", 0, 8, ("source", "target")))
        return model

    model = build(0)
    model.fit(make_pairs(), epochs=1, steps_per_epoch=3, verbose=0)
    Checkpoints(tmp_path, model, TrainingState(step=3)).save_last()
    fresh = build(1)
    assert Checkpoints(tmp_path, fresh, TrainingState()).restore_last()
    for side in ("source", "target"):
        np.testing.assert_array_equal(fresh.class_means[side].numpy(), model.class_means[side].numpy())


def test_costs_in_use():
    model = jt.JointModel(make_network())
    assert model.costs_in_use() is None
    model.set_cost_matrix(make_costs())
    np.testing.assert_array_equal(model.costs_in_use(), make_costs().values)


REPLICAS = """
import numpy as np
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
from jtln_tf.methods.jtln.class_means import ClassMeans

with strategy.scope():
    means = ClassMeans(2, 1, memory_steps=10, name="means")
values = iter([1.0, 5.0])
features = strategy.experimental_distribute_values_from_function(lambda _: tf.constant([[next(values)]]))
tf.function(lambda x: strategy.run(lambda x: means.update(x, tf.constant([0])), args=(x,)))(features)
print(float(means.numpy()[0, 0]))
"""


@pytest.mark.slow
def test_replicas_share_their_class_means(repository):
    result = subprocess.run(
        [sys.executable, "-c", REPLICAS], cwd=repository, capture_output=True, text=True, check=True
    )
    assert float(result.stdout) == pytest.approx(3.0)
