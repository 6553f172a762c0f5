"""The progress bar of a run, and the time that it still takes."""

import logging
import sys
import time

import keras
import tqdm

_LOG = logging.getLogger("jtln_tf")
# The estimate is told after this many steps, or this time if they are slow.
_TIMED_STEPS, _TIMED_SECONDS = 20, 10.0


class ProgressBar(keras.callbacks.Callback):
    """One bar over all stages of a run, with the loss, the training and the last validation accuracy on the target.

    Tells once, after the first steps, how long the others will take.

    Attributes:
        title: What stands before the bar.
        validation_accuracy: Last target validation accuracy in [0, 1], or None; set by whoever measures it.
    """

    def __init__(self, state, *, title: str, steps: int):
        """Shows the bar from the step of a `TrainingState` to the `steps` of the whole run."""
        super().__init__()
        self._state, self._steps, self._shown_at = state, steps, 0.0
        self.title, self.validation_accuracy = title, None
        # Time and step of the end of the first step: that one compiles.
        self._compiled = None
        self._has_estimated = False
        # Step, and seconds of training steps, from which the next speed counts; None before the stage's first step.
        self._paced_from = None
        # A log file gets a line now and then instead of a bar that redraws itself.
        self._interval = 0.2 if sys.stderr.isatty() else 10.0
        # It stays on the screen when it ends, unless it stands below a bar over several runs.
        self._bar = tqdm.tqdm(
            total=steps,
            initial=state.step,
            desc=title,
            unit="step",
            mininterval=self._interval,
            dynamic_ncols=True,
            leave=None,
        )

    def on_train_begin(self, logs=None):
        """Forgets the speed: the first step of a stage compiles."""
        self._paced_from = None

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar on; results are fetched from the device only as often as the bar is drawn."""
        self._paced_from = self._paced_from or (self._state.step, self._state.seconds)
        if not self._bar.disable and time.monotonic() - self._shown_at >= self._interval:
            self._shown_at = time.monotonic()
            shown = {"loss": f"{float(logs['loss']):.3f}"}
            if "target_train_accuracy" in logs:
                shown["training accuracy"] = f"{100 * float(logs['target_train_accuracy']):.0f}%"
            if self.validation_accuracy is not None:
                shown["validation accuracy"] = f"{100 * self.validation_accuracy:.0f}%"
            self._bar.set_postfix(shown, refresh=False)
        self._time(logs)
        self._bar.update(self._state.step - self._bar.n)

    def seconds_left(self) -> float | None:
        """Returns the seconds that the steps left will take at the pace so far; None before there is a pace."""
        if self._compiled is None or self._state.step <= self._compiled[1]:
            return None
        began, first = self._compiled
        pace = (time.monotonic() - began) / (self._state.step - first)
        return pace * (self._steps - self._state.step)

    def take_pace(self) -> float | None:
        """Returns the training steps a second since it was last called, or since a stage's first step; None if none."""
        before, self._paced_from = self._paced_from, (self._state.step, self._state.seconds)
        if before is None or self._state.seconds <= before[1]:
            return None
        return (self._state.step - before[0]) / (self._state.seconds - before[1])

    def close(self) -> None:
        """Closes the bar and leaves it on the screen."""
        self._bar.close()

    def _time(self, logs):
        if self._has_estimated:
            return
        if self._compiled is None:
            # Waits for the device.
            float(logs["loss"])
            self._compiled = time.monotonic(), self._state.step
            # The bar's own time left would take the compilation for the pace.
            self._bar.reset()
            self._bar.n = self._bar.initial = self._bar.last_print_n = self._state.step
            return
        began, first = self._compiled
        timed = self._state.step - first
        if timed < _TIMED_STEPS and time.monotonic() - began < _TIMED_SECONDS:
            return
        self._has_estimated = True
        float(logs["loss"])
        if left := self.seconds_left():
            _LOG.info(
                "%s: about %s for the %d steps left, by the pace of %d steps; validation and export come on top.",
                *(self.title, format_seconds(left), self._steps - self._state.step, timed),
            )


def format_seconds(seconds: float) -> str:
    """Returns a duration as a text of whole seconds, minutes, or hours."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, seconds):.0f} s"
