"""Numbers of a run: `metrics.jsonl` for programs, TensorBoard for people."""

import contextlib
import dataclasses
import json
import logging
import pathlib
import tempfile

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from jtln_tf import files
from jtln_tf.config import RunStoppedError
from jtln_tf.monitoring.charts import chart_name

_LOG = logging.getLogger("jtln_tf")
# What must find room behind a flush.
_PROBE_BYTES = 2**14


class RunLog:
    """Writes named numbers by step."""

    def __init__(self, path: pathlib.Path, tensorboard: pathlib.Path, *, first_step: int = 0, run: str = ""):
        """Opens a file of JSON lines and TensorBoard's folder.

        Drops what a killed run wrote behind `first_step`, and says so if earlier lines are gone, damaged, or of another
        run than that of the name `run`.
        """
        self._path, self._folder = path, tensorboard
        kept = _entries_until(path, first_step, run) if first_step else []
        if run and not kept:
            kept = [{"step": 0, "run": run}]
        with self._writable():
            files.write_whole(path, "".join(json.dumps(entry) + "\n" for entry in kept))
            self._file = path.open("a", encoding="utf-8")
            self._writer = tf.summary.create_file_writer(str(tensorboard))

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Writes numbers by name at a step."""
        values = {name: float(value) for name, value in scalars.items()}
        # In one event: an operation of TensorFlow for each number takes 20 times as long.
        event = summary_pb2.Summary()
        for name, value in values.items():
            event.MergeFrom(scalar_pb(chart_name(name), value))
        with self._writable(), self._writer.as_default(step):
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            tf.summary.experimental.write_raw_pb(event.SerializeToString())

    def write_image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Writes an image, uint8 [H, W, 3], to TensorBoard at a step."""
        with self._writable(), self._writer.as_default(step):
            tf.summary.image(chart_name(name), pixels[None])

    def write_text(self, name: str, text: str) -> None:
        """Writes a text in Markdown to TensorBoard."""
        with self._writable(), self._writer.as_default(0):
            tf.summary.text(name, text)

    def write_options(self, options: dict[str, bool | int | float | str]) -> None:
        """Writes the options of the run for TensorBoard's table of runs (HParams)."""
        from tensorboard.plugins.hparams import api

        with self._writable(), self._writer.as_default(0):
            api.hparams(options)

    def flush(self) -> None:
        """Flushes both logs to the disk."""
        with self._writable():
            self._file.flush()
            self._writer.flush()
            # TensorFlow's writer drops what a full disk does not take, without an error.
            with tempfile.TemporaryFile(dir=self._folder) as file:
                file.write(bytes(_PROBE_BYTES))
                files.sync(file)

    def close(self) -> None:
        """Closes the files."""
        with self._writable():
            try:
                self.flush()
            finally:
                self._writer.close()
                self._file.close()

    @contextlib.contextmanager
    def _writable(self):
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            raise RunStoppedError(
                f"The log must be writable. Received: {str(self._path)!r} ({files.first_line(error)})."
            ) from error


@dataclasses.dataclass(frozen=True)
class AccuracyCurve:
    """How a run came on.

    Attributes:
        steps: Steps after which the run was validated.
        seconds: Time of the run up to then, as of `TrainingState.seconds`; None where an older release wrote none.
        accuracies: Target validation accuracies, in [0, 1].
    """

    steps: tuple[int, ...] = ()
    seconds: tuple[float | None, ...] = ()
    accuracies: tuple[float, ...] = ()


def read_curve(path: pathlib.Path) -> AccuracyCurve:
    """Returns what a run logged of its validation; skips damaged lines."""
    entries, _ = files.read_json_lines(path)
    names = ("step", "train_seconds", "target_validation_accuracy")
    points = [tuple(one.get(name) for name in names) for one in entries]
    points = [point for point in points if isinstance(point[0], int) and isinstance(point[2], float)]
    return AccuracyCurve(*zip(*points, strict=True))


def _entries_until(path, step, run):
    entries, num_bad = files.read_json_lines(path)
    numbered = [entry for entry in entries if isinstance(entry.get("step"), int)]
    num_bad += len(entries) - len(numbered)
    if numbered and numbered[0].get("run", run) != run:
        _LOG.warning("%s is another run's, so the log begins anew at step %d.", path, step)
        return []
    if not numbered:
        _LOG.warning("%s is gone or damaged, so the log begins anew at step %d.", path, step)
    elif num_bad:
        _LOG.warning("%s holds %d damaged lines, which are left out.", path, num_bad)
    # Costs change before a step, after the previous step's checkpoint: they will be logged again.
    return [one for one in numbered if one["step"] < step or (one["step"] == step and "cost_drift" not in one)]
