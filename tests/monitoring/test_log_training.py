import contextlib
import json
import types

import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.config import RunStoppedError
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.monitoring import LogTraining, RunLog, log_costs, read_curve


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
        log.write(step, {"loss": 1.0 / step, "target_validation_accuracy": step / 10})
    log.write(2, {"cost_drift": 0.5})
    log.close()
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    RunLog(path, tmp_path / "tensorboard", first_step=2).close()
    assert read_curve(path) == ([1, 2], [0.1, 0.2])
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
