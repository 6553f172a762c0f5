import json
import os

import pytest

from jtln_tf.comparison import run as comparison
from jtln_tf.comparison.plan import plan_variants
from jtln_tf.config import DataConfig, InputError, TrainingConfig
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.experiment.workdir import Run
from jtln_tf.methods import find_method

DATA = DataConfig(source="builtin:mnist5k", target="builtin:optdigits")


def variants(**training):
    config = {"data": DATA, "training": TrainingConfig(**training)}
    return plan_variants([ExperimentConfig(method=find_method(name)(), **config) for name in ("joint", "l2_sp")])


@pytest.fixture
def trained(monkeypatch):
    """The folders that were trained in, by a stand-in that takes no time."""
    folders = []

    def train(config, folder, *, export, **modes):
        run = Run(folder, config)
        run.claim(**modes)
        if run.is_resumed and run.read_result():
            return run.read_result()
        folders.append(os.path.relpath(folder, folder.parent.parent))
        accuracy = 0.5 + 0.1 * config.training.seed
        result = {"target_accuracy": accuracy, "target_macro_accuracy": 0.4, "train_seconds": 9.6, "versions": {}}
        with run.begin({}, 0):
            run.metrics.write_text(json.dumps({"step": 1, "target_validation_accuracy": accuracy}) + "\n")
            run.write_result(result | {"seed": config.training.seed, "steps": config.training.steps})
        return run.read_result()

    monkeypatch.setattr(comparison, "run_experiment", train)
    return folders


def test_a_comparison_goes_on_where_it_was_stopped(trained, tmp_path):
    rows = comparison.run_comparison(variants(), range(2), tmp_path / "out")
    assert trained == ["joint/seed0", "joint/seed1", "l2_sp/seed0", "l2_sp/seed1"]
    assert [row["seeds"] for row in rows] == [[0, 1], [0, 1]] and rows[0]["target_accuracy"] == pytest.approx(0.55)
    assert json.loads((tmp_path / "out" / "table.json").read_text())["rows"] == rows
    line = "| joint without OT | 55.0 ± 7.1 | 10 |"
    assert (tmp_path / "out" / "table.md").read_text().splitlines()[2] == line
    assert (tmp_path / "out" / "accuracy.png").exists()
    (tmp_path / "out" / "l2_sp" / "seed0" / "result.json").unlink()
    del trained[:]
    assert comparison.run_comparison(variants(), range(2), tmp_path / "out") == rows and trained == ["l2_sp/seed0"]


def test_overwrite_replaces_only_runs_of_another_configuration(trained, tmp_path):
    comparison.run_comparison(variants(), [0], tmp_path)
    comparison.run_comparison(variants(steps=7), [1], tmp_path)
    del trained[:]
    with pytest.raises(InputError, match="another configuration.*steps: 7 -> 500"):
        comparison.run_comparison(variants(), range(2), tmp_path)
    assert trained == []
    comparison.run_comparison(variants(), range(2), tmp_path, overwrite=True)
    assert trained == ["joint/seed1", "l2_sp/seed1"]


@pytest.mark.parametrize("name", ["table.md", "accuracy.png", "jtln_tf.json"])
def test_files_of_the_user_with_names_of_ours_are_left(trained, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="`output` must be a new folder or that of a comparison"):
        comparison.run_comparison(variants(), [0], tmp_path, overwrite=True)
    assert trained == [] and (tmp_path / name).read_text() == "mine" and os.listdir(tmp_path) == [name]
