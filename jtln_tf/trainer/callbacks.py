"""What happens between training steps: counting, validation, checkpoints, early stopping, new costs."""

import math
import time

import keras
from absl import logging

from jtln_tf.config import NonFiniteLossError


class StepCounter(keras.callbacks.Callback):
    """Counts steps and training time into the `TrainingState`, and stops on a loss that is not finite.

    Comes first in the list of callbacks: the others read the step that it sets.
    """

    def __init__(self, state):
        super().__init__()
        self._state = state
        self._started = None

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Counts the step.

        Raises:
            NonFiniteLossError: If a loss term is NaN or infinite.
        """
        self._state.seconds += time.perf_counter() - self._started
        self._state.step += 1
        broken = [f"{name}={value}" for name, value in logs.items() if not math.isfinite(value)]
        if broken:
            raise NonFiniteLossError(
                f"The loss must stay finite. Received: {', '.join(broken)} at step {self._state.step}. Hint: a lower "
                "--head_learning_rate and --backbone_learning_rate, or --clip_norm=1; the last checkpoint is kept."
            )


class ValidateAndSave(keras.callbacks.Callback):
    """At the end of every epoch, and of the stage: validates, saves, and stops when nothing gets better."""

    def __init__(self, state, checkpoints, log, *, validate, steps_per_epoch, patience, last_step):
        """Prepares the callback.

        Args:
            state: `TrainingState`.
            checkpoints: `Checkpoints`.
            log: `RunLog` that the validation accuracy is written to.
            validate: Called without arguments, returns the target validation accuracy in [0, 1]; None where the stage
                does not train the target, or there are no validation images.
            steps_per_epoch: Steps between two validations.
            patience: Epochs without a better accuracy after which training stops; 0 is never.
            last_step: Step at which the stage ends.
        """
        super().__init__()
        self._state, self._checkpoints, self._log = state, checkpoints, log
        self._validate, self._steps_per_epoch, self._patience = validate, steps_per_epoch, patience
        self._last_step = last_step

    def on_train_batch_end(self, batch, logs=None):
        """Acts where an epoch ends."""
        state = self._state
        if state.step % self._steps_per_epoch and state.step != self._last_step:
            return
        if self._validate is not None:
            accuracy = self._validate()
            self._log.write(state.step, {"target_validation_accuracy": accuracy})
            if accuracy > state.best_accuracy:
                state.best_accuracy, state.best_step, state.epochs_since_best = accuracy, state.step, 0
                self._checkpoints.save_best()
            else:
                state.epochs_since_best += 1
            if self._patience and state.epochs_since_best >= self._patience:
                logging.info("Stopped early at step %d; best was step %d.", state.step, state.best_step)
                self.model.stop_training = True
        self._log.flush()
        self._checkpoints.save_last()


class RefreshCosts(keras.callbacks.Callback):
    """Re-estimates the cost matrix with the network as it is, every so many steps.

    The first estimate is made when the transport loss sets in: before that the network knows too little.
    """

    def __init__(self, state, *, estimate, every_steps, start_step):
        """Prepares the callback.

        Args:
            state: `TrainingState`.
            estimate: Called without arguments, returns the new `CostMatrix`, or None where nothing is known yet.
            every_steps: Steps between two estimates.
            start_step: Step of the first one.
        """
        super().__init__()
        self._state, self._estimate = state, estimate
        self._every_steps, self._start_step = every_steps, start_step

    def on_train_batch_begin(self, batch, logs=None):
        """Replaces the costs before the step where they are due."""
        since = self._state.step - self._start_step
        if since >= 0 and since % self._every_steps == 0:
            costs = self._estimate()
            if costs is not None:
                self.model.set_cost_matrix(costs)
