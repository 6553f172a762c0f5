"""Scalars of a run, to `metrics.jsonl` and TensorBoard."""

import contextlib
import json
import math
import os
import pathlib

import keras
import tensorflow as tf
from absl import logging

from jtln_tf.config import RunStoppedError

# Of the images since the last entry; fewer, and the transport loss is not what it says.
_LEAST_CONVERGED = 0.99


class RunLog:
    """Writes named scalars by step, to a file for programs and to TensorBoard for people."""

    def __init__(self, workdir, *, first_step=0):
        """Opens the files of a run.

        Args:
            workdir: Folder of the run.
            first_step: Step that the run goes on from: what a killed run had written beyond it is taken out.
        """
        workdir = pathlib.Path(workdir)
        path = workdir / "metrics.jsonl"
        if first_step:
            unfinished = path.with_name(path.name + ".unfinished")
            unfinished.write_text("".join(_entries_until(path, first_step)))
            os.replace(unfinished, path)
        self._path = path
        self._file = path.open("a" if first_step else "w")
        self._writer = tf.summary.create_file_writer(str(workdir / "tensorboard"))

    def write(self, step, scalars):
        """Writes `scalars`, a dict of numbers, at a step."""
        entry = {"step": step, **{name: float(value) for name, value in scalars.items()}}
        with self._writable():
            self._file.write(json.dumps(entry) + "\n")
        with self._writer.as_default(step):
            for name, value in scalars.items():
                tf.summary.scalar(name, float(value))

    def write_image(self, step, name, pixels):
        """Writes an image, uint8 [H, W, 3], to TensorBoard at a step."""
        with self._writer.as_default(step):
            tf.summary.image(name, pixels[None])

    def flush(self):
        """Brings what was written to the disk."""
        with self._writable():
            self._file.flush()
            self._writer.flush()

    def close(self):
        """Closes the files."""
        with self._writable():
            self._file.close()
            self._writer.close()

    @contextlib.contextmanager
    def _writable(self):
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            reason = str(error).splitlines()[0]
            raise RunStoppedError(f"The log must be writable. Received: {str(self._path)!r} ({reason}).") from error


class LogTraining(keras.callbacks.Callback):
    """Writes the means of the loss terms over the last steps, the learning rates and the passes over each domain.

    Warns once where the transport was not solved to its threshold.
    """

    def __init__(self, state, log, *, every_steps, count_passes):
        """Prepares the callback.

        Args:
            state: `TrainingState`.
            log: `RunLog`.
            every_steps: Steps between two entries.
            count_passes: Called with a step of the run, returns the passes over each domain, by name.
        """
        super().__init__()
        self._state, self._log, self._every_steps, self._count_passes = state, log, every_steps, count_passes
        self._has_warned = False

    def on_train_batch_end(self, batch, logs=None):
        """Writes an entry where one is due."""
        step = self._state.step
        if step % self._every_steps:
            return
        rates = {"head_learning_rate": self.model.optimizer.learning_rate}
        if self.model.backbone_optimizer is not None:
            rates["backbone_learning_rate"] = self.model.backbone_optimizer.learning_rate
        passes = {f"{domain}_passes": count for domain, count in self._count_passes(step).items()}
        self._log.write(step, {**logs, "transport_weight": self.model.transport_weight(), **rates, **passes})
        self._warn_if_unsolved(step, logs)
        # Means since the last entry, not since the start.
        for metric in self.model.metrics:
            metric.reset_state()

    def _warn_if_unsolved(self, step, logs):
        converged = float(logs.get("transport_converged", 1.0))
        if converged >= _LEAST_CONVERGED or self._has_warned:
            return
        self._has_warned = True
        logging.warning(
            "the transport loss was solved to --sinkhorn_threshold for only %.1f %% of the last images before step %d "
            "(mean marginal error %.1e): a greater --epsilon or more --sinkhorn_max_iterations solve it; said once.",
            100 * converged,
            step,
            logs["marginal_error"],
        )


def _entries_until(path, step):
    if not path.is_file():
        return []
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            entry = json.loads(line) if line.endswith("\n") else {"step": math.inf}
            # Costs change before a step, after the checkpoint of the step before: they will be told again.
            if entry["step"] < step or (entry["step"] == step and "cost_drift" not in entry):
                kept.append(line)
        except ValueError:
            # The line that a kill cut short.
            continue
    return kept
