"""The callback that writes what a step reports to the log."""

from collections.abc import Callable

import keras
from absl import logging

# Share of the images since the last entry; below it the reported transport loss is unreliable.
_LEAST_CONVERGED = 0.99


class LogTraining(keras.callbacks.Callback):
    """Writes the means of the loss terms over the last steps, the learning rates, passes over each domain, and speed.

    `step_seconds` and `images_per_second` count training steps alone; `data_wait_seconds` is the part of a step that it
    waited for its batch.

    Results are fetched from the device only when an entry is written. Warns once if the transport was not solved to its
    threshold.
    """

    def __init__(
        self, state, log, *, every_steps: int, count_passes: Callable[[int], dict[str, float]], images_per_step: int = 0
    ):
        """Prepares the callback.

        Args:
            state: How far the run has come.
            log: `RunLog`.
            every_steps: Steps between two entries.
            count_passes: Maps a step of the run to the passes over each domain, by name.
            images_per_step: Images in a step, over all replicas; 0 leaves the speed out.
        """
        super().__init__()
        self._state, self._log, self._every_steps, self._count_passes = state, log, every_steps, count_passes
        self._images_per_step = images_per_step
        self._last, self._has_warned = (0, 0.0), False

    def on_train_begin(self, logs=None):
        """Begins to count."""
        self._last = self._state.step, self._state.seconds

    def on_train_batch_end(self, batch, logs=None):
        """Writes an entry if one is due."""
        step = self._state.step
        if step % self._every_steps:
            return
        means = {name: float(value) for name, value in logs.items()}
        rates = {f"{part}_learning_rate": rate for part, rate in self.model.learning_rates().items()}
        passes = {f"{domain}_passes": count for domain, count in self._count_passes(step).items()}
        self._log.write(step, {**means, **rates, **passes, **(self._measure_speed() if self._images_per_step else {})})
        self._warn_if_unsolved(step, means)
        # Means since the last entry, not since the start.
        for metric in self.model.metrics:
            metric.reset_state()

    def _measure_speed(self):
        steps, seconds = self._state.step - self._last[0], self._state.seconds - self._last[1]
        self._last = self._state.step, self._state.seconds
        waited = self.model.train_function.take_seconds_waited()
        return {
            "step_seconds": seconds / steps,
            "images_per_second": self._images_per_step * steps / max(seconds, 1e-9),
            "data_wait_seconds": waited / steps,
        }

    def _warn_if_unsolved(self, step, means):
        converged = means.get("transport_converged", 1.0)
        if converged >= _LEAST_CONVERGED or self._has_warned:
            return
        self._has_warned = True
        logging.warning(
            "the transport loss was solved to --sinkhorn_threshold for only %.1f %% of the last images before step %d "
            "(mean marginal error %.1e): a greater --epsilon or more --sinkhorn_max_iterations solve it; said once.",
            100 * converged,
            step,
            means["marginal_error"],
        )
