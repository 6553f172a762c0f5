"""When training stops before its last step, and which step's network is kept."""

import dataclasses
import math
import typing

from jtln_tf.config import AUTO_EARLY_STOPPING

if typing.TYPE_CHECKING:
    from jtln_tf.trainer.checkpoints import TrainingState

# The accuracy of fewer images moves by more from one checkpoint to the next than training gains or loses.
_LEAST_IMAGES = 50
_AUTO_PATIENCE = 5
# Standard errors of a difference of two accuracies.
_MARGIN = 2.0


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """What `--early_stopping_epochs` means for one stage.

    By a number of epochs, training stops after that many validations without a better accuracy, and the best step is
    kept. By `AUTO_EARLY_STOPPING` the last step is kept unless its accuracy is below the best by more than chance
    explains; a schedule that lowers the learning rate gains most in its last steps, so a plateau stops nothing.

    Attributes:
        epochs: Value of the option.
        num_images: Target validation images; without any, nothing stops and the last step is kept.
        earliest_step: Step before which `AUTO_EARLY_STOPPING` does not stop.
    """

    epochs: int
    num_images: int
    earliest_step: int = 0

    def stops(self, state: "TrainingState") -> bool:
        """Returns whether training stops now."""
        if self.epochs != AUTO_EARLY_STOPPING:
            return 0 < self.epochs <= state.epochs_since_best
        is_late = state.step >= self.earliest_step and state.epochs_since_best >= _AUTO_PATIENCE
        return is_late and self._is_clearly_below(state)

    def keeps_best(self, state: "TrainingState") -> bool:
        """Returns whether the best step's network replaces the present one."""
        if self.epochs != AUTO_EARLY_STOPPING:
            return self.epochs > 0 and self.num_images > 0
        return self._is_clearly_below(state)

    def _is_clearly_below(self, state):
        if self.num_images < _LEAST_IMAGES or state.last_accuracy < 0:
            return False
        mean = (state.best_accuracy + state.last_accuracy) / 2
        # As if both had been measured on other images. They share their images, so this overestimates the error.
        error = math.sqrt(2 * mean * (1 - mean) / self.num_images)
        return state.best_accuracy - state.last_accuracy > _MARGIN * error
