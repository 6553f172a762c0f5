import contextlib
import json
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins import projector

from jtln_tf.batches import pair_domains
from jtln_tf.config import RunStoppedError, parse_augmentation
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.data import load_domain
from jtln_tf.monitoring import (
    AccuracyCurve,
    LogTraining,
    RunLog,
    SourceValidation,
    draw_batch,
    log_batches,
    log_costs,
    log_matches,
    log_opening,
    log_validation,
    read_curve,
    write_projector,
)


class Log:
    def __init__(self):
        self.entries, self.images = [], []

    def write(self, step, scalars):
        self.entries.append((step, scalars))

    def write_image(self, step, name, pixels):
        self.images.append((step, name, pixels.dtype, pixels.ndim))


@pytest.mark.parametrize(
    ("shares", "is_warned"),
    [([1.0, 1.0, 0.5, 0.985, 0.2, 0.3], True), ([1.0, 0.99, 1.0, 0.99], False), ([None] * 4, False)],
)
def test_entries_are_written_at_log_steps_and_an_unsolved_transport_is_told_once(shares, is_warned, caplog):
    log, state = Log(), types.SimpleNamespace(step=0)
    callback = LogTraining(state, log, every_steps=2, count_passes=lambda step: {"source": step / 10})
    callback.set_model(types.SimpleNamespace(learning_rates=lambda: {"head": 0.1}, metrics=[]))
    for share in shares:
        state.step += 1
        solved = {} if share is None else {"transport_converged": tf.constant(share), "marginal_error": 2e-3}
        callback.on_train_batch_end(state.step, {"loss": tf.constant(1.0), **solved})
    assert [step for step, _ in log.entries] == list(range(2, len(shares) + 1, 2))
    last = log.entries[-1][1]
    assert last["head_learning_rate"] == 0.1 and last["source_passes"] == len(shares) / 10 and last["loss"] == 1.0
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == is_warned
    assert not is_warned or "only 98.5 % of the last images before step 4" in messages[0]


def test_costs_are_drawn_if_what_they_say_has_changed():
    log, before = Log(), None
    first = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]], np.float32)
    for step, values in enumerate((first, first + 0.1, first[[1, 0, 2]])):
        log_costs(log, step, CostMatrix(values, ("a", "b", "c"), ("d", "e")), before)
        before = values
    assert log.entries[0] == (1, {"cost_drift": pytest.approx(0.1), "cost_nearest_changed": 0.0})
    assert log.entries[1][0] == 2 and log.entries[1][1]["cost_nearest_changed"] == 1.0
    assert log.images == [(0, "cost_matrix", np.uint8, 3), (2, "cost_matrix", np.uint8, 3)]


def test_a_resumed_log_forgets_what_was_written_beyond_its_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = RunLog(path, tmp_path / "tensorboard")
    for step in (1, 2, 3):
        log.write(step, {"loss": 1.0 / step, "target_validation_accuracy": step / 10, "train_seconds": step + 0.5})
    log.write(2, {"cost_drift": 0.5})
    log.close()
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    RunLog(path, tmp_path / "tensorboard", first_step=2).close()
    assert read_curve(path) == AccuracyCurve((1, 2), (1.5, 2.5), (0.1, 0.2))
    assert "cost_drift" not in path.read_text()


@pytest.mark.parametrize(
    ("content", "told", "steps"),
    [
        (
            '{"step": 0, "run": "a"}\n{"step": 1, "x": 0.5}\n{"step": "one"}\n[]\n\xff\n{"step": 2}\n',
            "3 damaged lines",
            [0, 1, 2],
        ),
        ('{"step": 0, "run": "b"}\n{"step": 1}\n', "is another run's", [0]),
        ("\x00" * 50, "is gone or damaged", [0]),
        (None, "is gone or damaged", [0]),
    ],
)
def test_a_log_that_is_damaged_or_another_runs_is_told(tmp_path, caplog, content, told, steps):
    path = tmp_path / "metrics.jsonl"
    if content is not None:
        path.write_text(content, "latin-1")
    RunLog(path, tmp_path / "tensorboard", first_step=3, run="a").close()
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert [entry["step"] for entry in entries] == steps and entries[0]["run"] == "a"
    assert len(caplog.messages) == 1 and told in caplog.messages[0]


@contextlib.contextmanager
def log_closed(log):
    """Closes the log at the end, so that its disk can go."""
    try:
        yield
    finally:
        with contextlib.suppress(RunStoppedError):
            log.close()


@pytest.mark.parametrize("has_images", [False, True])
def test_a_disk_that_fills_up_is_told_by_the_log(tmp_path, small_disk, has_images):
    """With images TensorBoard's file meets the end of the disk; with a line each, `metrics.jsonl`."""
    path = tmp_path / "metrics.jsonl" if has_images else small_disk / "metrics.jsonl"
    log = RunLog(path, small_disk / "tensorboard" if has_images else tmp_path / "tensorboard")
    (small_disk / "filler").write_bytes(bytes(2**20 - 2**16))
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    with pytest.raises(RunStoppedError, match="The log must be writable"), log_closed(log):
        for step in range(9):
            if has_images:
                log.write_image(step, "noise", noise)
            else:
                log.write(step, {"a" * 2**16: 0.1})
            log.flush()


def test_charts_are_grouped_and_the_numbers_keep_their_names(tmp_path):
    log = RunLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard")
    numbers = (
        "target_validation_accuracy",
        "source_train_accuracy",
        "loss",
        "transport_loss",
        "source_validation_loss",
    )
    numbers += ("head_learning_rate", "sinkhorn_iterations", "cost_drift", "target_passes", "images_per_second")
    log.write(3, dict.fromkeys(numbers, 1.0))
    log_opening(log, {"data": {"source": "folder:a|b\udc80", "size": 3, "flip": True}}, {"source": "4 classes"})
    target = load_domain("builtin:optdigits?per_class=3&validation_fraction=0.2")
    log_batches(log, 3, {"target": draw_batch(target, parse_augmentation("none"), 32, 0, 1)})
    mistakes = [{"image": 2, "label": 3, "predicted": 8, "probability": 0.9}]
    log_validation(log, 3, target, np.eye(10), mistakes)
    log_matches(log, 3, CostMatrix(np.eye(2), "ab", "cd"), CostMatrix(np.eye(2), "ab", "cd"))
    log.close()
    assert set(json.loads((tmp_path / "metrics.jsonl").read_text())) == {"step", *numbers}
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    tags = {tag for kind in ("tensors", "images") for tag in events.Tags()[kind]}
    accuracies = ("validation_target", "while_training_source")
    accuracies += ("confusion_target_validation", "mistakes_target_validation")
    losses = ("validation_source", "while_training", "while_training_transport")
    assert tags == {f"accuracy/{name}" for name in accuracies} | {f"loss/{name}" for name in losses} | {
        *("lr/head", "transport/sinkhorn_iterations", "transport/cost_drift", "data/target_passes"),
        *("transport/cost_matrix", "transport/mean_plan"),
        *("throughput/images_per_second", "data/batch_target", "configuration", "data", "_hparams_/session_start_info"),
    }
    assert "a\\|b" in events.Tensors("configuration")[0].tensor_proto.string_val[0].decode()


def test_the_first_batch_is_drawn_as_augmented_and_the_source_is_sampled():
    target = load_domain("builtin:optdigits?per_class=3&validation_fraction=0.2")
    picture = draw_batch(target, parse_augmentation("none"), 32, 0, 1)
    batch = next(iter(pair_domains(None, target, target_batch=32, seed=0, target_augmentation="none")))["target"][0]
    # Two rows of eight images, 28 pixels a side, drawn three times as large.
    assert picture.shape == (2 * (84 + 2), 8 * (84 + 2), 3)
    for place, pixels in enumerate(np.asarray(batch)[:16]):
        row, column = divmod(place, 8)
        shown = picture[row * 86 : row * 86 + 84 : 3, column * 86 : column * 86 + 84 : 3, 0]
        np.testing.assert_array_equal(shown, pixels[..., 0])
    image = keras.Input(target.image_shape)
    first = keras.layers.Dense(10, kernel_initializer="zeros", bias_initializer="zeros", activation="softmax")
    network = keras.Model(image, {"source": first(keras.layers.Flatten()(image))})
    seen = SourceValidation(network, target, 1000).measure()
    assert seen["source_validation_loss"] == pytest.approx(np.log(10)) and 0 <= seen["source_validation_accuracy"] < 0.5


def test_the_projector_gets_the_features_of_named_images_and_their_pictures(tmp_path):
    domains = {
        "source": load_domain("builtin:optdigits?per_class=4&classes=0,1,7&validation_fraction=0"),
        "target": load_domain("builtin:optdigits?per_class=3&validation_fraction=0"),
    }
    image = keras.Input((28, 28, 1))
    network = keras.Model(image, keras.layers.Flatten()(image))
    write_projector(tmp_path, network, domains, 12)
    config = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), projector.ProjectorConfig())
    (shown,) = config.embeddings
    features = np.loadtxt(tmp_path / shown.tensor_path, delimiter="\t")
    rows = [line.split("\t") for line in (tmp_path / shown.metadata_path).read_text().splitlines()]
    assert rows[0] == ["domain", "class"] and len(rows) - 1 == len(features) == 24
    assert [rows.count(["source", name]) for name in "017"] == [4, 4, 4]
    with Image.open(tmp_path / shown.sprite.image_path) as picture:
        sprite = np.asarray(picture.convert("L"), float)
    # Five across; the pictures stand in the order of the rows.
    assert sprite.shape == (160, 160)
    for place, feature in enumerate(features):
        top, left = 32 * (place // 5), 32 * (place % 5)
        drawn = sprite[top : top + 32, left : left + 32]
        own = np.asarray(Image.fromarray(feature.reshape(28, 28).astype(np.uint8)).resize((32, 32)), float)
        assert np.abs(drawn - own).mean() < 1
