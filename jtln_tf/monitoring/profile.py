"""The callback that records a profile of some steps for TensorBoard."""

import logging
import pathlib

import keras
import tensorflow as tf

from jtln_tf.config import RunStoppedError
from jtln_tf.files import first_line

_LOG = logging.getLogger("jtln_tf")


class Profile(keras.callbacks.Callback):
    """Records what the devices and the input do from one step of the run to another, both included."""

    def __init__(self, state, folder: pathlib.Path, steps: tuple[int, int]):
        """Writes into TensorBoard's folder."""
        super().__init__()
        self._state, self._folder, (self._first, self._last) = state, folder, steps
        self._is_on = False

    def on_train_batch_begin(self, batch, logs=None):
        """Begins before the first of the steps, or the first of a stage or a resumed run among them."""
        if not self._is_on and self._first <= self._state.step + 1 <= self._last:
            tf.profiler.experimental.start(str(self._folder))
            self._is_on = True

    def on_train_batch_end(self, batch, logs=None):
        """Ends behind the last of the steps."""
        if self._is_on and self._state.step >= self._last:
            # Waits for the device.
            float(logs["loss"])
            self._stop()

    def on_train_end(self, logs=None):
        """Ends with the stage at the latest."""
        if self._is_on:
            self._stop()

    def _stop(self):
        self._is_on = False
        try:
            tf.profiler.experimental.stop()
        except tf.errors.OpError as error:
            raise RunStoppedError(
                f"A profile must be writable. Received: {str(self._folder)!r} ({first_line(error)})."
            ) from error
        _LOG.info("a profile of steps %d to %d is in %s.", self._first, self._state.step, self._folder)
