import dataclasses

import numpy as np
import pytest

from jtln_tf import comparison
from jtln_tf.comparison import Variant, format_table, plan_variants, run_comparison, run_folder
from jtln_tf.config import CostConfig, DataConfig, ExperimentConfig, InputError, MissingInputError, TrainingConfig
from jtln_tf.costs import CostMatrix


def test_a_variant_is_a_method_under_one_configuration():
    config = ExperimentConfig(cost=CostConfig(cost_matrix="online", cost_refresh_steps=100))
    changed = Variant("joint").configure(config, 3)
    assert (changed.training.method, changed.training.seed) == ("joint", 3)
    assert changed == dataclasses.replace(config, training=changed.training)


@pytest.mark.parametrize(
    ("cost_matrix", "refresh_steps"),
    [
        ("mkmmd", 100),
        ("shuffled:prediction", 100),
        ("0.5*text+mkmmd", 100),
        ("text", 0),
        ("fisher_mkmmd", 0),
        ("uniform", 0),
        ("a.csv", 0),
    ],
)
def test_a_variant_with_a_cost_matrix_of_its_own(cost_matrix, refresh_steps):
    config = ExperimentConfig(cost=CostConfig(cost_matrix="online", cost_refresh_steps=100, cost_centring="dual"))
    changed = Variant("jtln", cost_matrix).configure(config, 0)
    assert changed.cost == CostConfig(cost_matrix=cost_matrix, cost_refresh_steps=refresh_steps, cost_centring="dual")
    assert changed.objective == config.objective


def test_online_costs_are_estimated_every_epoch_where_no_steps_are_given():
    config = ExperimentConfig(training=TrainingConfig(steps_per_epoch=30))
    assert Variant("jtln", "online").configure(config, 0).cost.cost_refresh_steps == 30
    assert Variant("jtln", "mkmmd").configure(config, 0).cost.cost_refresh_steps == 0


def test_lines_of_the_table():
    variants = plan_variants(["joint", "jtln"], ["mkmmd", "shuffled:mkmmd", "0.5*mkmmd+d/a b.csv"])
    assert [variant.title for variant in variants] == [
        "joint without OT",
        "JTLN, mkmmd",
        "JTLN, shuffled:mkmmd",
        "JTLN, 0.5*mkmmd+d/a b.csv",
    ]
    assert [run_folder("out", variant, 2).as_posix() for variant in variants] == [
        "out/joint/seed2",
        "out/jtln-mkmmd/seed2",
        "out/jtln-shuffled-mkmmd/seed2",
        "out/jtln-0.5-mkmmd-d-a-b.csv/seed2",
    ]
    assert [variant.folder for variant in plan_variants(["jtln", "joint"])] == ["jtln", "joint"]


@pytest.mark.parametrize(
    ("methods", "cost_matrices"),
    [(["jtln"], ["a/b.csv", "a-b.csv"]), (["joint", "joint"], []), (["jtln", "jtln"], ["text"])],
)
def test_lines_that_would_share_a_folder(methods, cost_matrices):
    with pytest.raises(InputError, match="must be named once each. Received: '.*' repeatedly"):
        plan_variants(methods, cost_matrices)


def test_table():
    row = {
        "title": "JTLN, text",
        "target_accuracy": 0.5,
        "target_accuracy_std": 0.015,
        "seeds": [0],
        "train_seconds": 9.6,
    }
    assert format_table([row]).splitlines()[2] == "| JTLN, text | 50.0 | 10 |"
    assert format_table([{**row, "seeds": [0, 1]}]).splitlines()[2] == "| JTLN, text | 50.0 ± 1.5 | 10 |"


def test_cost_files_are_looked_at_before_the_first_run(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "run_experiment", None)
    config = ExperimentConfig(data=DataConfig(source="builtin:mnist5k", target="builtin:optdigits?per_class=3"))
    variants = plan_variants(["joint", "jtln"], [str(tmp_path / "none.npz")])
    with pytest.raises(MissingInputError, match="`cost_matrix` must name an existing file"):
        run_comparison(config, variants, range(2), tmp_path / "out")
    CostMatrix(np.zeros((1, 1)), ("a",), ("b",), data={"target": {"fingerprint": "1"}}).save(tmp_path / "cost.npz")
    variants = plan_variants(["joint", "jtln"], [str(tmp_path / "cost.npz")])
    with pytest.raises(
        InputError, match="`seeds` must be 1 with a cost matrix .* one draw of the labels. Received: 2, "
    ):
        run_comparison(config, variants, range(2), tmp_path / "out")
    assert not (tmp_path / "out").exists()
