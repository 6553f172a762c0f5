"""The progress bar of a run."""

import sys

import keras
import tqdm


class ProgressBar(keras.callbacks.Callback):
    """One bar over all stages of a run, with the loss and the training accuracy on the target."""

    def __init__(self, state, *, title, steps):
        """Shows the bar.

        Args:
            state: `TrainingState`; the bar begins at its step.
            title: What stands before the bar.
            steps: Steps of the whole run.
        """
        super().__init__()
        self._state = state
        # A log file gets a line now and then instead of a bar that redraws itself.
        interval = 0.2 if sys.stderr.isatty() else 10.0
        self._bar = tqdm.tqdm(
            total=steps, initial=state.step, desc=title, unit="step", mininterval=interval, dynamic_ncols=True
        )

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar on."""
        shown = {"loss": f"{logs['loss']:.3f}"}
        if "target_train_accuracy" in logs:
            shown["target"] = f"{100 * logs['target_train_accuracy']:.0f}%"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(self._state.step - self._bar.n)

    def close(self):
        """Leaves the finished bar standing."""
        self._bar.close()
