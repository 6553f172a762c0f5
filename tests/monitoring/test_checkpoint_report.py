"""What a person is told at a checkpoint, and how long the steps will take."""

import logging
import math
import types

import numpy as np
import pytest

from jtln_tf.methods import Stage
from jtln_tf.monitoring import CheckpointReport, ProgressBar
from jtln_tf.monitoring.checkpoint_report import chance_level
from jtln_tf.monitoring.progress import format_seconds

STAGE = Stage("joint", 100, ("source", "target"))


def tell(caplog, *checkpoints, images=40, labels=50, stage=STAGE):
    """Messages of checkpoints (step, training accuracy, validation accuracy) of a run of 100 steps, 10 classes."""
    state = types.SimpleNamespace(step=0)
    bar = types.SimpleNamespace(title="jtln", validation_accuracy=None)
    bar.seconds_left, bar.take_pace = lambda: 300.0, lambda: 20.0
    target = types.SimpleNamespace(num_classes=10, train=range(labels), validation=Labelled(np.arange(images) % 10))
    report = CheckpointReport(state, bar, target, 100, {"source": 64, "target": 32})
    with caplog.at_level(logging.INFO, logger="jtln_tf"):
        for step, training, accuracy in checkpoints:
            state.step = step
            measured = {
                "loss": 0.5,
                "source_loss": 0.3,
                "transport_loss": -0.2,
                "target_train_accuracy": training,
                "source_train_accuracy": 0.25,
            }
            measured |= {} if accuracy is None else {"target_validation_accuracy": accuracy}
            report.tell(stage, measured, step == 100)
    assert bar.validation_accuracy == checkpoints[-1][2]
    return [(record.levelname, record.getMessage()) for record in caplog.records]


class Labelled:
    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)


def warnings_of(messages):
    return [text for level, text in messages if level == "WARNING"]


def test_a_checkpoint_tells_what_the_accuracies_are_of(caplog):
    assert tell(caplog, (50, 0.9, 0.75)) == [
        (
            "INFO",
            "jtln, step 50 of 100: loss 0.500 (source 0.300, transport -0.200), target validation accuracy 75.0 % "
            "(40 images), target training accuracy 90.0 %, 1,920 images/s, about 5 min left",
        )
    ]
    (record,) = caplog.records
    assert record.strong == "target validation accuracy 75.0 %"
    expected = {"step": 50, "steps": 100, "transport_loss": -0.2, "target_validation_accuracy": 0.75}
    assert expected.items() <= record.figures.items() and record.figures["images_per_second"] == 1920


def test_without_validation_images_the_remedy_is_told_once_and_not_while_the_target_waits(caplog):
    messages = [text for _, text in tell(caplog, (50, 0.9, None), (100, 0.9, None), images=0)]
    assert sum("?validation_fraction=" in text for text in messages) == 1 and len(messages) == 3
    caplog.clear()
    (message,) = tell(caplog, (50, 0.9, None), stage=Stage("source", 50, ("source",)))
    assert "source training accuracy 25.0 %" in message[1]


def test_an_accuracy_that_guessing_reaches_is_told_once_after_half_of_the_steps(caplog):
    (text,) = warnings_of(tell(caplog, (40, 0.5, 0.1), (50, 0.5, 0.175), (100, 0.5, 0.1)))
    assert "17.5 % at step 50" in text and "up to 17.5 % for 40 images of 10 classes" in text
    caplog.clear()
    assert not warnings_of(tell(caplog, (100, 0.5, 0.2)))


@pytest.mark.parametrize(
    ("training", "validation", "images", "labels", "is_told"),
    [
        (1.0, 0.4, 40, 50, True),
        # Few labels, few images, not by heart, a gap that chance widens past 30 points.
        (1.0, 0.4, 40, 30, False),
        (1.0, 0.4, 15, 50, False),
        (0.98, 0.4, 40, 50, False),
        (1.0, 0.6, 40, 50, False),
    ],
)
def test_a_network_that_knows_its_labels_by_heart_is_told_if_there_were_enough(
    caplog, training, validation, images, labels, is_told
):
    told = warnings_of(tell(caplog, (100, training, validation), images=images, labels=labels))
    assert len(told) == is_told and all("by heart" in text and "more labels" in text for text in told)


@pytest.mark.parametrize(("classes", "images"), [(10, 50), (2, 60), (41, 41)])
def test_the_chance_level_is_the_binomial_bound_or_the_most_frequent_class(classes, images):
    def share_above(hits):
        terms = (
            math.comb(images, k) * (classes - 1) ** (images - k) / classes**images for k in range(hits + 1, images + 1)
        )
        return sum(terms)

    hits = round(chance_level(np.bincount(np.arange(images) % classes)) * images)
    assert share_above(hits) <= 0.05 < share_above(hits - 1)
    assert chance_level(np.array([30, 10, 10])) == 0.6
    # A network that is right three times of four would be taken for one that guesses.
    assert chance_level(np.array([15, 15])) is None and chance_level(np.ones(19, int)) is None


def test_the_time_that_the_steps_take_is_told_by_their_pace_without_the_first(caplog, monkeypatch, capsys):
    now = [1000.0]
    monkeypatch.setattr("jtln_tf.monitoring.progress.time.monotonic", lambda: now[0])
    state = types.SimpleNamespace(step=0, seconds=0.0)
    bar = ProgressBar(state, title="jtln", steps=200)
    bar.validation_accuracy = 0.5
    with caplog.at_level(logging.INFO, logger="jtln_tf"):
        for step in range(1, 31):
            state.step, now[0] = step, now[0] + (60 if step == 1 else 0.1)
            # Training takes half of the time.
            state.seconds += 60 if step == 1 else 0.05
            bar.on_train_batch_end(step, {"loss": 1.0, "target_train_accuracy": 0.75})
    bar.close()
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "jtln: about 18 s for the 179 steps left, by the pace of 20 steps"
    ]
    assert bar.seconds_left() == pytest.approx(17.0)
    assert bar.take_pace() == pytest.approx(20.0) and bar.take_pace() is None
    shown = capsys.readouterr().err.split("\r")[-1]
    assert "30/200" in shown and "training accuracy=75%" in shown and "validation accuracy=50%" in shown


def test_durations_are_short():
    assert [format_seconds(seconds) for seconds in (0.2, 119.4, 600, 9000)] == ["1 s", "119 s", "10 min", "2 h"]
