"""A run whose images vanish."""

import dataclasses
import pathlib
import shutil

import pytest

from jtln_tf.config import RunStoppedError
from jtln_tf.experiment import run_experiment
from tests.experiment.test_experiment import make_config


def test_a_run_stops_with_one_line(bars, tmp_path, monkeypatch):
    shutil.copytree(bars, tmp_path / "data")
    config = make_config(tmp_path / "data", method="target_only")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, cache="none"))

    def lose(source, target):
        for path in target.train.images:
            pathlib.Path(path).unlink()
        return {}

    monkeypatch.setattr("jtln_tf.experiment.run.count_leaks", lose)
    with pytest.raises(RunStoppedError, match="Every image must stay readable .* which has gone"):
        run_experiment(config, tmp_path / "run")
