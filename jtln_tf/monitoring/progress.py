"""The progress bar of a run."""

import sys
import time

import keras
import tqdm


class ProgressBar(keras.callbacks.Callback):
    """One bar over all stages of a run, with the loss and the training accuracy on the target."""

    def __init__(self, state, *, title: str, steps: int):
        """Shows the bar from the step of a `TrainingState` to the `steps` of the whole run."""
        super().__init__()
        self._state, self._shown_at = state, 0.0
        # A log file gets a line now and then instead of a bar that redraws itself.
        interval = 0.2 if sys.stderr.isatty() else 10.0
        self._bar = tqdm.tqdm(
            total=steps, initial=state.step, desc=title, unit="step", mininterval=interval, dynamic_ncols=True
        )

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar on; results are fetched from the device only as often as the bar is drawn."""
        if time.monotonic() - self._shown_at >= self._bar.mininterval:
            self._shown_at = time.monotonic()
            shown = {"loss": f"{float(logs['loss']):.3f}"}
            if "target_train_accuracy" in logs:
                shown["training accuracy"] = f"{100 * float(logs['target_train_accuracy']):.0f}%"
            self._bar.set_postfix(shown, refresh=False)
        self._bar.update(self._state.step - self._bar.n)

    def close(self) -> None:
        """Closes the bar and leaves it on the screen."""
        self._bar.close()
