"""What happens between training steps: counting, validation, checkpoints, early stopping, refreshing."""

import logging
import time
from collections.abc import Callable

import keras

from jtln_tf.config import NonFiniteLossError
from jtln_tf.methods.base import Setup
from jtln_tf.trainer.checkpoints import Checkpoints, TrainingState
from jtln_tf.trainer.early_stopping import EarlyStopping
from jtln_tf.trainer.health import GRADIENTS, LARGEST_WEIGHT, WEIGHTS
from jtln_tf.trainer.model import JointModel
from jtln_tf.trainer.signals import StopRequest

_LOG = logging.getLogger("jtln_tf")


class StepCounter(keras.callbacks.Callback):
    """Counts steps and training time into the `TrainingState`, and stops on a loss that is not finite.

    Comes first in the list of callbacks: the others read the step that it sets.
    """

    def __init__(self, state: TrainingState, check_steps: int):
        """Checks every `check_steps` steps whether the loss has stayed finite."""
        super().__init__()
        self._state, self._check_steps = state, check_steps
        self._started = None

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Counts the step."""
        self._state.step += 1
        if self._state.step % self._check_steps == 0:
            check_loss(self.model)
        # After the check, which waits for the device.
        self._state.seconds += time.perf_counter() - self._started


def check_loss(model: JointModel) -> None:
    """Raises `NonFiniteLossError`, with the first such step, if a term, a gradient or a weight was not usable."""
    step, names = model.health.broken_terms()
    if not names:
        return
    if GRADIENTS in names:
        told = f"Gradients must stay finite. Received: others at step {step}, whose loss was finite."
    elif WEIGHTS in names:
        told = (
            f"Weights must stay finite, and below {LARGEST_WEIGHT:.2g} in size. Received: others after the update of "
            f"step {step}."
        )
    else:
        told = f"The loss must stay finite. Received: {', '.join(names)} not finite at step {step}."
    raise NonFiniteLossError(told, step)


class StopBetweenSteps(keras.callbacks.Callback):
    """Saves and stops after the step in which a signal came. Comes last in the list of callbacks."""

    def __init__(self, state: TrainingState, checkpoints: Checkpoints, log, request: StopRequest):
        """Acts on a `StopRequest`; flushes the `RunLog` before it saves."""
        super().__init__()
        self._state, self._checkpoints, self._log, self._request = state, checkpoints, log, request

    def on_train_batch_end(self, batch, logs=None):
        """Saves what is not saved yet, and raises `RunInterruptedError`."""
        if self._request.signal is None:
            return
        step = self._state.step
        if self._checkpoints.saved_step != step:
            check_loss(self.model)
            self._log.flush()
            self._checkpoints.save_last()
        self._request.raise_error(f"step {step}")


class ValidateAndSave(keras.callbacks.Callback):
    """At the end of every epoch, and of the stage: validates, tells, saves, and stops early if that is due."""

    def __init__(
        self,
        state: TrainingState,
        checkpoints: Checkpoints,
        log,
        *,
        validate: Callable[[], float] | None,
        probe: Callable[[], None] | None = None,
        steps_per_epoch: int,
        early_stopping: EarlyStopping,
        last_step: int,
        validate_start: Callable[[], float] | None = None,
        on_checkpoint: Callable[[dict[str, float], bool], None] | None = None,
    ):
        """Prepares the callback.

        Args:
            state: How far the run has come.
            checkpoints: What is saved.
            log: `RunLog` that the validation accuracy is written to.
            validate: Returns the target validation accuracy in [0, 1]; None validates nothing.
            probe: Called instead; raises `NonFiniteLossError` if the network is not to be saved.
            steps_per_epoch: Steps between two validations.
            early_stopping: Says when the stage stops before its last step.
            last_step: Step at which the stage ends.
            validate_start: Called before the first step of the run, like `validate`; or None.
            on_checkpoint: Called with the means of the last steps and, if there is one, the validation accuracy, by
                name, and whether the stage ends here.
        """
        super().__init__()
        self._state, self._checkpoints, self._log = state, checkpoints, log
        self._validate, self._steps_per_epoch, self._early_stopping = validate, steps_per_epoch, early_stopping
        self._probe, self._last_step, self._on_checkpoint = probe, last_step, on_checkpoint
        self._validate_start = validate_start

    def on_epoch_begin(self, epoch, logs=None):
        """Brings back the running means of the log, which Keras has just reset."""
        self._checkpoints.restore_means()

    def on_train_begin(self, logs=None):
        """Writes how good the start is; no run comes back to it."""
        if self._validate_start is not None and self._state.step == 0:
            self._write(self._validate_start())

    def on_train_batch_end(self, batch, logs=None):
        """Validates and saves if an epoch ends; weights of a loss that is not finite are not saved."""
        state = self._state
        if state.step % self._steps_per_epoch and state.step != self._last_step:
            return
        check_loss(self.model)
        measured = {name: float(value) for name, value in (logs or {}).items()}
        if self._validate is not None:
            measured["target_validation_accuracy"] = self._note(self._validate())
        elif self._probe is not None:
            self._probe()
        is_last = state.step == self._last_step
        if not is_last and self._validate is not None and self._early_stopping.stops(state):
            _LOG.info("stopped early at step %d; the best was step %d.", state.step, state.best_step)
            self.model.stop_training = is_last = True
            state.stopped = 1
        if self._on_checkpoint is not None:
            self._on_checkpoint(measured, is_last)
        self._log.flush()
        self._checkpoints.save_last()

    def _write(self, accuracy):
        values = {"target_validation_accuracy": accuracy, "train_seconds": self._state.seconds}
        self._log.write(self._state.step, values)

    def _note(self, accuracy):
        """Notes a validation accuracy, and saves the network if it is the best so far; returns the accuracy."""
        state = self._state
        state.last_accuracy = accuracy
        self._write(accuracy)
        if accuracy > state.best_accuracy:
            state.best_accuracy, state.best_step, state.epochs_since_best = accuracy, state.step, 0
            self._checkpoints.save_best()
        else:
            state.epochs_since_best += 1
        return accuracy


class Refresh(keras.callbacks.Callback):
    """Lets the method refresh its estimates before each step."""

    def __init__(self, state: TrainingState, setup: Setup, *, on_costs: Callable):
        """Calls `on_costs(step, costs, before)` with each new `CostMatrix` and the values [n, m] before it, or None."""
        super().__init__()
        self._state, self._setup, self._on_costs = state, setup, on_costs
        self._before = None

    def on_train_begin(self, logs=None):
        """Notes the costs that the stage begins with."""
        self._before = self.model.method_state.costs_in_use() if self.model.method.uses_costs else None

    def on_train_batch_begin(self, batch, logs=None):
        """Asks the method."""
        try:
            costs = self.model.method.refresh(self._state.step, self.model.method_state, self._setup)
        except ValueError:
            # Weights that are no longer finite are the likelier cause.
            check_loss(self.model)
            raise
        if costs is not None:
            self._on_costs(self._state.step, costs, self._before)
            self._before = costs.values
