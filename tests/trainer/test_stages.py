"""Stages with their callbacks, checkpoints and optimizers."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import jtln_tf as jt
from jtln_tf.config import InputError, NonFiniteLossError, RunStoppedError, TrainingConfig
from jtln_tf.costs.config import CostConfig
from jtln_tf.methods import METHODS, Stage
from jtln_tf.trainer.callbacks import Refresh, StepCounter, ValidateAndSave
from jtln_tf.trainer.checkpoints import Checkpoints, TrainingState, read_state, restore_network
from jtln_tf.trainer.early_stopping import EarlyStopping
from jtln_tf.trainer.optimizers import build_optimizer
from jtln_tf.trainer.stages import compile_for_stage, train_stage
from tests.trainer.conftest import make_costs, make_network, make_pairs, values_of

BOTH = ("source", "target")


def rates(steps=100, **options):
    schedule = build_optimizer(TrainingConfig(**options), 0.1, steps)._learning_rate
    return np.array([float(schedule(step)) for step in range(steps)])


def test_schedules_follow_their_formulas():
    step = np.arange(100)
    cosine = 0.1 * 0.5 * (1 + np.cos(np.pi * step / 100)) * np.minimum(1, (step + 1) / 10)
    np.testing.assert_allclose(rates(schedule="cosine", warmup_steps=10), cosine, atol=1e-7)
    np.testing.assert_allclose(rates(schedule="step"), np.repeat([0.1, 0.01, 0.001], [50, 25, 25]), rtol=1e-5)
    np.testing.assert_allclose(rates(schedule="constant", optimizer="sgd"), 0.1, rtol=1e-6)


def test_weight_decay_spares_biases():
    variables = make_network().trainable_variables
    optimizer = build_optimizer(TrainingConfig(weight_decay=0.5, schedule="constant"), 0.1, 10)
    optimizer.build(variables)
    before = values_of(variables)
    optimizer.apply([tf.zeros_like(variable.value) for variable in variables], variables)
    for variable, old in zip(variables, before, strict=True):
        expected = old if variable.path.endswith("bias") else old * (1 - 0.1 * 0.5)
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5)


class FakeLog:
    def __init__(self):
        self.entries = []

    def write(self, step, scalars):
        self.entries.append((step, scalars))

    def flush(self):
        pass


def make_model(seed=0, value=1.0, **options):
    model = jt.JointModel(make_network(seed), cost_matrix=make_costs(value), **options)
    compile_for_stage(model, TrainingConfig(), Stage("joint", 20, BOTH))
    return model


def train(folder, accuracies, *, steps=20, patience=0, every=4, **options):
    state, log, model = TrainingState(), FakeLog(), make_model()
    told = log.checkpoints = []
    checkpoints = Checkpoints(folder, model, state, model.network)
    validate = iter(accuracies).__next__
    save = ValidateAndSave(
        state,
        checkpoints,
        log,
        validate=validate,
        steps_per_epoch=every,
        early_stopping=EarlyStopping(patience, num_images=10),
        last_step=steps,
        on_checkpoint=lambda measured, is_last: told.append((measured, is_last)),
        **options,
    )
    callbacks = [StepCounter(state, check_steps=2), save]
    train_stage(model, make_pairs(), Stage("joint", steps, BOTH), first_step=0, callbacks=callbacks)
    return model, state, checkpoints, log


def test_validation_comes_at_every_epoch_and_early_stopping_comes_back_to_the_best(tmp_path):
    _, state, _, log = train(tmp_path, [0.1, 0.3, 0.2], steps=10)
    assert [step for step, _ in log.entries] == [4, 8, 10]
    assert (state.best_accuracy, state.best_step, state.epochs_since_best) == (0.3, 8, 1)
    assert state.last_accuracy == 0.2 and [is_last for _, is_last in log.checkpoints] == [False, False, True]
    measured = log.checkpoints[1][0]
    assert measured["target_validation_accuracy"] == 0.3 and measured["loss"] > 0
    model, state, checkpoints, log = train(tmp_path, [0.1, 0.5, 0.4, 0.3, 0.9], patience=2)
    assert (state.step, state.best_step) == (16, 8)
    assert [is_last for _, is_last in log.checkpoints] == [False, False, False, True]
    last = values_of(model.network.variables)
    assert checkpoints.restore_best()
    assert any((one != other).any() for one, other in zip(last, values_of(model.network.variables), strict=True))


def test_the_accuracy_of_the_start_is_logged_and_chooses_nothing(tmp_path):
    _, state, _, log = train(tmp_path, [0.1, 0.3, 0.2], steps=10, validate_start=lambda: 0.9)
    assert [(step, entry["target_validation_accuracy"]) for step, entry in log.entries[:2]] == [(0, 0.9), (4, 0.1)]
    assert log.entries[0][1]["train_seconds"] == 0 < log.entries[1][1]["train_seconds"]
    assert (state.best_accuracy, state.best_step) == (0.3, 8)


def test_a_checkpoint_brings_back_weights_optimizers_costs_and_state(tmp_path):
    folder = tmp_path / "seed[1] ünï"
    folder.mkdir()
    model, state, _, _ = train(folder, [0.1, 0.3], steps=8)
    parts = ("network", "optimizer", "method_state")
    expected = {part: values_of(getattr(model, part).variables) for part in parts}
    restored = read_state(folder)
    assert restored == state and restored.step == 8
    fresh = make_model(seed=1, value=0.5)
    Checkpoints(folder, fresh, restored, fresh.network).restore_last()
    for part, wanted in expected.items():
        for old, new in zip(wanted, values_of(getattr(fresh, part).variables), strict=True):
            np.testing.assert_array_equal(old, new)
    assert int(fresh.steps_seen.numpy()) == 8
    network = make_network(seed=2)
    assert restore_network(folder, network)
    for old, new in zip(expected["network"], values_of(network.variables), strict=True):
        np.testing.assert_array_equal(old, new)
    assert sorted(path.name for path in folder.iterdir()) == ["best.npz", "last.npz", "previous.npz"]
    # An older release noted no last accuracy.
    with np.load(folder / "last.npz") as arrays:
        older = {name: arrays[name] for name in arrays if name != "state/last_accuracy"}
    np.savez(folder / "last.npz", **older)
    assert read_state(folder) == dataclasses.replace(state, last_accuracy=-1.0)


def test_class_means_are_in_a_checkpoint(tmp_path):
    model, fresh = (make_model(seed, cost=CostConfig(matrix="online", refresh_steps=5)) for seed in (0, 1))
    model.fit(make_pairs(), steps_per_epoch=3, verbose=0)
    Checkpoints(tmp_path, model, TrainingState(step=3), model.network).save_last()
    Checkpoints(tmp_path, fresh, TrainingState(), fresh.network).restore_last()
    for side in BOTH:
        np.testing.assert_array_equal(
            fresh.method_state.class_means[side].numpy(), model.method_state.class_means[side].numpy()
        )


def test_a_damaged_or_foreign_checkpoint_is_told_and_changes_nothing(tmp_path, small_disk):
    assert read_state(tmp_path) is None and not restore_network(tmp_path, make_network())
    model, state, checkpoints, _ = train(tmp_path, [0.1], steps=4)
    path = tmp_path / "last.npz"
    image = keras.Input((8, 8, 1))
    other = jt.build_network(keras.Model(image, keras.layers.Flatten()(image)), 3, 2, image_shape=(8, 8, 1))
    before = values_of(other.variables)
    with pytest.raises(InputError, match="A checkpoint must be whole and of this run"):
        restore_network(tmp_path, other)
    whole = path.read_bytes()
    # A flipped bit wherever it is, a file cut anywhere, and one that is none.
    damaged = [whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :] for at in range(0, len(whole), len(whole) // 50)]
    damaged += [whole[:at] for at in (0, 10, len(whole) // 2, len(whole) - 32, len(whole) - 1)]
    for content in (*damaged, whole[:-1] + bytes([whole[-1] ^ 1]), b"no checkpoint" * 99, whole + b"more"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="A checkpoint must be whole and of this run. Received: .*last.npz"):
            read_state(tmp_path)
    for old, new in zip(before, values_of(other.variables), strict=True):
        np.testing.assert_array_equal(old, new)
    (small_disk / "filler").write_bytes(bytes(2**20 - 8192))
    with pytest.raises(RunStoppedError, match=r"A checkpoint must be writable.* at step 4 \(No space left"):
        Checkpoints(small_disk, model, state, model.network).save_last()
    assert [one.name for one in small_disk.iterdir()] == ["filler"]


def test_the_checkpoint_before_is_used_if_the_last_is_damaged_or_of_another_run(tmp_path, caplog):
    model, state, checkpoints, _ = train(tmp_path, [0.1, 0.3], steps=8)
    last, previous, best = (tmp_path / f"{name}.npz" for name in ("last", "previous", "best"))
    last.write_bytes(last.read_bytes()[:-9])
    assert read_state(tmp_path).step == 4 and "the checkpoint before the last is used, of step 4" in caplog.text
    best.write_bytes(b"")
    fresh, found = make_model(seed=1), read_state(tmp_path)
    Checkpoints(tmp_path, fresh, found, fresh.network).restore_last()
    assert int(fresh.steps_seen.numpy()) == 4 and not previous.exists() and read_state(tmp_path).step == 4
    # The best was that of the step restored, so it is not lost.
    assert found.best_step == 4 and Checkpoints(tmp_path, fresh, found, fresh.network).restore_best()
    assert not list(tmp_path.glob("*.unfinished"))
    state.run = "a"
    checkpoints.save_last()
    with pytest.raises(InputError, match="of another run.*The one before cannot be used either"):
        previous.unlink()
        previous.symlink_to("nowhere")
        read_state(tmp_path, "b")


def test_running_means_go_on(tmp_path):
    model = make_model()
    model.fit(make_pairs(), steps_per_epoch=3, verbose=0)
    Checkpoints(tmp_path, model, TrainingState(step=3), model.network).save_last()
    fresh = make_model()
    checkpoints = Checkpoints(tmp_path, fresh, TrainingState(step=3), fresh.network)
    checkpoints.restore_last()
    checkpoints.restore_means()
    expected, found = (
        {name: float(value) for name, value in one.metrics[0].result().items()} for one in (model, fresh)
    )
    assert expected == found and expected["loss"]


def test_weights_that_no_update_can_change_any_more_are_found_before_they_are_saved(tmp_path):
    model, state = make_model(), TrainingState()
    model.network.trainable_variables[-2].assign(2.0**25 + model.network.trainable_variables[-2])
    save = ValidateAndSave(
        state,
        Checkpoints(tmp_path, model, state, model.network),
        FakeLog(),
        validate=None,
        steps_per_epoch=2,
        early_stopping=EarlyStopping(0, num_images=0),
        last_step=2,
    )
    with pytest.raises(NonFiniteLossError, match=r"Weights must stay finite, and below 1.7e\+07 in size.* of step 1\."):
        train_stage(model, make_pairs(), Stage("joint", 2, BOTH), first_step=0, callbacks=[StepCounter(state, 9), save])
    model.network.variables[0].assign(np.nan * model.network.variables[0])
    with pytest.raises(NonFiniteLossError, match="Weights must stay finite.*which is not saved"):
        Checkpoints(tmp_path, model, state, model.network).save_last()
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_stops_training_with_its_step_and_term_and_is_not_saved(tmp_path):
    # Classes that do not agree would switch the transport off.
    state, model = TrainingState(), make_model(method=METHODS["jtln"](transport_gate="none"))
    checkpoints = Checkpoints(tmp_path, model, state, model.network)
    never = EarlyStopping(0, num_images=0)
    save = ValidateAndSave(
        state, checkpoints, FakeLog(), validate=None, steps_per_epoch=3, early_stopping=never, last_step=9
    )
    good, bad = make_pairs().map(_make_shares).take(4), make_pairs().map(_make_shares).map(_spoil_the_source)
    callbacks = [StepCounter(state, check_steps=100), save]
    with pytest.raises(NonFiniteLossError, match=r"Received: loss, source_loss, transport_loss not finite at step 5\."):
        stage = Stage("joint", 9, BOTH)
        train_stage(model, good.concatenate(bad), stage, first_step=0, callbacks=callbacks)
    assert read_state(tmp_path).step == 3


def _make_shares(pair):
    images, labels = pair["source"]
    return {**pair, "source": (images, tf.one_hot(labels, 3))}


def _spoil_the_source(pair):
    images, shares = pair["source"]
    return {**pair, "source": (images, shares * np.nan)}


def test_a_method_refreshes_its_costs_at_its_steps():
    method = METHODS["jtln"](transport_start_step=3)
    seen = []

    class Setup:
        cost = CostConfig(refresh_steps=4)

    def estimate(step, state, setup):
        seen.append(step)
        return make_costs(value=float(len(seen)))

    model, state, told = make_model(method=method), TrainingState(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jtln_tf.methods.jtln.costs.current_costs", estimate)
        refresh = Refresh(state, Setup, on_costs=lambda step, costs, before: told.append((step, before.max())))
        callbacks = [StepCounter(state, check_steps=5), refresh]
        train_stage(model, make_pairs(), Stage("joint", 12, BOTH), first_step=0, callbacks=callbacks)
    assert seen == [3, 7, 11]
    np.testing.assert_allclose(model.method_state.cost_values.numpy(), make_costs(3.0).values)
    # Each is told with the costs that it replaces.
    assert told == [(3, pytest.approx(5 / 6)), (7, pytest.approx(5 / 6)), (11, pytest.approx(10 / 6))]
