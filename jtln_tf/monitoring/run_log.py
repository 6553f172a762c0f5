"""Numbers of a run: `metrics.jsonl` for programs, TensorBoard for people."""

import contextlib
import json
import math
import pathlib

import numpy as np
import tensorflow as tf

from jtln_tf import files
from jtln_tf.config import RunStoppedError


class RunLog:
    """Writes named numbers by step."""

    def __init__(self, path: pathlib.Path, tensorboard: pathlib.Path, *, first_step: int = 0):
        """Opens a file of JSON lines and TensorBoard's folder; drops what a killed run wrote behind `first_step`."""
        if first_step:
            files.write_whole(path, "".join(_entries_until(path, first_step)))
        self._path = path
        self._file = path.open("a" if first_step else "w")
        self._writer = tf.summary.create_file_writer(str(tensorboard))

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Writes numbers by name at a step."""
        entry = {"step": step, **{name: float(value) for name, value in scalars.items()}}
        with self._writable():
            self._file.write(json.dumps(entry) + "\n")
        with self._writer.as_default(step):
            for name, value in scalars.items():
                tf.summary.scalar(name, float(value))

    def write_image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Writes an image, uint8 [H, W, 3], to TensorBoard at a step."""
        with self._writer.as_default(step):
            tf.summary.image(name, pixels[None])

    def flush(self) -> None:
        """Flushes both logs to the disk."""
        with self._writable():
            self._file.flush()
            self._writer.flush()

    def close(self) -> None:
        """Closes the files."""
        with self._writable():
            self._file.close()
            self._writer.close()

    @contextlib.contextmanager
    def _writable(self):
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            raise RunStoppedError(
                f"The log must be writable. Received: {str(self._path)!r} ({files.first_line(error)})."
            ) from error


def read_curve(path: pathlib.Path) -> tuple[list[int], list[float]]:
    """Returns the steps and the target validation accuracies, in [0, 1], that a run logged."""
    entries = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    found = [entry for entry in entries if "target_validation_accuracy" in entry]
    return [entry["step"] for entry in found], [entry["target_validation_accuracy"] for entry in found]


def _entries_until(path, step):
    if not path.is_file():
        return []
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            entry = json.loads(line) if line.endswith("\n") else {"step": math.inf}
            # Costs change before a step, after the previous step's checkpoint: they will be logged again.
            if entry["step"] < step or (entry["step"] == step and "cost_drift" not in entry):
                kept.append(line)
        except ValueError:
            # The line that a kill cut short.
            continue
    return kept
