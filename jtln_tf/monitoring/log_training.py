"""The callback that writes what a step reports to the log."""

from collections.abc import Callable

import keras
from absl import logging

# Share of the images since the last entry; below it the reported transport loss is unreliable.
_LEAST_CONVERGED = 0.99


class LogTraining(keras.callbacks.Callback):
    """Writes the means of the loss terms over the last steps, the learning rates and the passes over each domain.

    Results are fetched from the device only when an entry is written. Warns once if the transport was not solved to its
    threshold.
    """

    def __init__(self, state, log, *, every_steps: int, count_passes: Callable[[int], dict[str, float]]):
        """Writes to a `RunLog`; `count_passes` maps a step of the run to the passes over each domain, by name."""
        super().__init__()
        self._state, self._log, self._every_steps, self._count_passes = state, log, every_steps, count_passes
        self._has_warned = False

    def on_train_batch_end(self, batch, logs=None):
        """Writes an entry if one is due."""
        step = self._state.step
        if step % self._every_steps:
            return
        means = {name: float(value) for name, value in logs.items()}
        rates = {f"{part}_learning_rate": rate for part, rate in self.model.learning_rates().items()}
        passes = {f"{domain}_passes": count for domain, count in self._count_passes(step).items()}
        self._log.write(step, {**means, **rates, **passes})
        self._warn_if_unsolved(step, means)
        # Means since the last entry, not since the start.
        for metric in self.model.metrics:
            metric.reset_state()

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
