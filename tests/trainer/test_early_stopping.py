"""When training stops, and which step is kept."""

import pytest

from jtln_tf.config import AUTO_EARLY_STOPPING, InputError, TrainingConfig
from jtln_tf.trainer.checkpoints import TrainingState
from jtln_tf.trainer.early_stopping import EarlyStopping


def state_of(best, last, *, step=300, since=5):
    return TrainingState(step=step, best_accuracy=best, best_step=1, epochs_since_best=since, last_accuracy=last)


# The error of the difference of 80 and 70 % on 200 images is sqrt(2 * .75 * .25 / 200) = 4.3 points, on 100: 6.1.
@pytest.mark.parametrize(
    ("images", "best", "last", "is_clear"),
    [(200, 0.8, 0.7, True), (100, 0.8, 0.7, False), (49, 0.9, 0.1, False), (200, 0.8, 0.8, False), (0, -1, -1, False)],
)
def test_by_default_the_last_step_is_kept_unless_it_is_clearly_worse_than_the_best(images, best, last, is_clear):
    rule = EarlyStopping(AUTO_EARLY_STOPPING, images, earliest_step=250)
    assert rule.keeps_best(state_of(best, last)) is is_clear
    assert rule.stops(state_of(best, last)) is is_clear


def test_by_default_training_stops_late_and_after_some_validations():
    rule = EarlyStopping(AUTO_EARLY_STOPPING, 200, earliest_step=250)
    assert not rule.stops(state_of(0.8, 0.6, step=200)) and not rule.stops(state_of(0.8, 0.6, since=4))
    assert rule.keeps_best(state_of(0.8, 0.6, since=1))


def test_a_number_of_epochs_stops_there_and_keeps_the_best_and_zero_does_neither():
    two, never = EarlyStopping(2, 10), EarlyStopping(0, 1000)
    assert two.stops(state_of(0.8, 0.79, since=2)) and not two.stops(state_of(0.8, 0.79, since=1))
    assert two.keeps_best(state_of(0.8, 0.79))
    assert not never.stops(state_of(0.8, 0.1)) and not never.keeps_best(state_of(0.8, 0.1))
    with pytest.raises(InputError, match="`early_stopping_epochs` must be at least -1"):
        TrainingConfig(early_stopping_epochs=-2)
