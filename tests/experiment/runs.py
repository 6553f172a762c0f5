"""A run that takes seconds, and ways to stop it."""

import dataclasses
import json

import numpy as np
import pytest

from jtln_tf.config import DataConfig, NetworkConfig, TrainingConfig
from jtln_tf.costs.config import CostConfig
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.experiment.run import run_experiment
from jtln_tf.methods import find_method
from jtln_tf.trainer.callbacks import StepCounter


def make_config(bars, method="target_only", *, cost=("uniform", 0), options=None, **sections):
    """A configuration on `bars`; `sections` holds options by section that replace these."""
    data = {
        "source": "folder:source",
        "target": "folder:target?per_class=3&test_fraction=0.5",
        "data_root": str(bars),
        "image_size": 16,
        "channels": 1,
        "source_augmentation": "none",
        "target_augmentation": "none",
        "source_batch": 8,
        "target_batch": 6,
    }
    training = {"steps": 12, "steps_per_epoch": 4, "log_steps": 1}
    return ExperimentConfig(
        data=DataConfig(**(data | sections.get("data", {}))),
        network=NetworkConfig(**({"backbone": "small_cnn"} | sections.get("network", {}))),
        training=TrainingConfig(**(training | sections.get("training", {}))),
        cost=CostConfig(matrix=cost[0], refresh_steps=cost[1]),
        method=find_method(method)(**(options or {})),
    )


def read_losses(workdir):
    """The loss terms and validation accuracies by step."""
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    names = ("loss", "target_loss", "source_loss", "transport_loss", "target_validation_accuracy")
    return {(entry["step"], name): entry[name] for entry in entries for name in names if name in entry}


def assert_went_on(stopped, whole, results):
    expected, found = read_losses(whole), read_losses(stopped)
    assert sorted(found) == sorted(expected)
    # Threads may add float32 sums in another order; the batches, and so the losses, are the same.
    np.testing.assert_allclose([found[key] for key in expected], list(expected.values()), rtol=1e-3, atol=1e-4)
    assert results[0]["steps"] == results[1]["steps"]
    assert results[0]["target_accuracy"] == pytest.approx(results[1]["target_accuracy"], abs=0.06)


def run_stopped_at(config, workdir, step):
    """Runs until a step has begun, as if the process had died there."""

    class Killed(Exception):
        pass

    begin = StepCounter.on_train_batch_begin

    def die(self, batch, logs=None):
        if self._state.step == step:
            raise Killed
        begin(self, batch, logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepCounter, "on_train_batch_begin", die)
        with pytest.raises(Killed):
            run_experiment(config, workdir, export=False)


def replace(config, section, **options):
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **options)})
