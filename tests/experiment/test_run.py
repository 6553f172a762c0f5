"""Whole runs on small real files: finished, gone on with, replaced, diverged and refused."""

import gc
import shutil
import weakref

import keras
import numpy as np
import pytest

from jtln_tf.config import InputError, NonFiniteLossError
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.data import load_domain
from jtln_tf.evaluation import evaluate
from jtln_tf.experiment.assembly import load_trained
from jtln_tf.experiment.run import run_experiment
from jtln_tf.experiment.workdir import Run
from jtln_tf.export.checksums import find_damaged_file
from jtln_tf.trainer.model import JointModel
from tests.experiment.runs import make_config, read_losses, replace, run_stopped_at


@pytest.mark.slow
def test_a_finished_run_is_exported_loaded_kept_and_replaced(bars, tmp_path, caplog):
    shutil.copytree(bars, tmp_path / "data")
    config, workdir = make_config(tmp_path / "data"), tmp_path / "run"
    first = run_experiment(config, workdir, export=False)
    target = load_domain(config.data.target, data_root=str(bars), image_size=16)
    assert first["target_test_images"] == len(target.test) > 0
    assert first["source_accuracy"] is None and first["steps"] == 12
    assert first["target_test_images_in_target_train"] == first["target_test_images_in_source_train"] == 0
    second = run_experiment(config, workdir, resume=True)
    assert second.pop("export_difference") < 1e-4 and second == first
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    assert run_experiment(config, workdir, resume=True)["export_difference"] < 1e-4
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before
    weights = next((workdir / "export").rglob("variables.data*"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert find_damaged_file(workdir / "export") == weights.relative_to(workdir / "export").as_posix()
    assert run_experiment(config, workdir, resume=True)["export_difference"] < 1e-4
    assert "the network is exported anew" in caplog.text and find_damaged_file(workdir / "export") == ""
    network, domains = load_trained(Run.open(workdir))
    assert evaluate(network, domains["target"]).accuracy == first["target_accuracy"]

    (workdir / "notes.txt").write_text("mine")
    other = replace(config, "training", seed=1, steps=2)
    with pytest.raises(InputError, match="seed: 0 -> 1"):
        run_experiment(other, workdir)
    assert run_experiment(other, workdir, overwrite=True, export=False)["seed"] == 1
    assert (workdir / "notes.txt").read_text() == "mine" and not (workdir / "export").exists()

    (tmp_path / "data" / "target" / "t1").rename(tmp_path / "data" / "target" / "t9")
    with pytest.raises(InputError, match="The target classes must be those of the run.*'t1', 't9'"):
        load_trained(Run.open(workdir))


@pytest.mark.slow
def test_a_finished_run_takes_more_steps_as_if_it_had_been_begun_with_them(bars, tmp_path):
    training = {"schedule": "constant", "steps_per_epoch": 4, "log_steps": 3}
    config = make_config(bars, "joint", training=training, network={"head_dropout": 0.2})
    run_experiment(replace(config, "training", steps=6), tmp_path / "run", export=False)
    with pytest.raises(InputError, match="`steps` must be at least 6, which the run has taken. Received: 5"):
        run_experiment(replace(config, "training", steps=5), tmp_path / "run", resume=True, extend=True, export=False)
    options = {"resume": True, "extend": True, "export": False}
    results = [
        run_experiment(config, tmp_path / "run", **options),
        run_experiment(config, tmp_path / "whole", export=False),
    ]
    assert (
        results[0]["steps"] == 12 and run_experiment(config, tmp_path / "run", resume=True, export=False) == results[0]
    )
    # The log has one entry more: the validation of step 6, which was the last step.
    expected, found = read_losses(tmp_path / "whole"), read_losses(tmp_path / "run")
    np.testing.assert_allclose([found[key] for key in expected], list(expected.values()), rtol=1e-3, atol=1e-4)
    assert {key for key in found if key not in expected} == {(6, "target_validation_accuracy")}
    stages = replace(make_config(bars, "consecutive"), "training", steps=24)
    run_stopped_at(make_config(bars, "consecutive"), tmp_path / "stages", 10)
    with pytest.raises(InputError, match="`steps` must stay 12 once .* is in its stage 2, which begins at step 6"):
        run_experiment(stages, tmp_path / "stages", **options)


@pytest.mark.slow
def test_a_run_that_diverged_says_where_and_goes_on_with_a_lower_learning_rate(bars, tmp_path):
    training = {"schedule": "constant", "optimizer": "sgd", "head_learning_rate": 1e-3}
    good = make_config(bars, "joint", training=training)
    bad = replace(good, "training", head_learning_rate=1e9, backbone_learning_rate=1e9)
    with pytest.raises(
        NonFiniteLossError, match="Its batch: source .*/source/s.*and 4 more; target .*No checkpoint was"
    ):
        run_experiment(bad, tmp_path / "never", export=False)
    run_stopped_at(good, tmp_path / "run", 6)
    with pytest.raises(
        NonFiniteLossError, match=r"of step 5\..* The checkpoint of step 4 is kept. Hint: --resume with a"
    ) as told:
        run_experiment(bad, tmp_path / "run", resume=True, extend=True, export=False)
    assert "--debug_nans finds the layer" in str(told.value)
    with pytest.raises(NonFiniteLossError, match="The first to break is the update of the weights"):
        run_experiment(
            replace(bad, "training", debug_nans=True), tmp_path / "run", resume=True, extend=True, export=False
        )
    assert not (tmp_path / "run" / "result.json").exists() and not (tmp_path / "run" / "export").exists()
    assert run_experiment(good, tmp_path / "run", resume=True, extend=True, export=False)["steps"] == 12


@pytest.mark.parametrize("method", ["nearest_mean", "linear_probe"])
def test_methods_without_training_are_evaluated_exported_and_found_again(bars, tmp_path, method):
    config = make_config(bars, method, network={"start": "strong", "neck": "whitened"})
    result = run_experiment(config, tmp_path / "run")
    assert result["steps"] == 0 and result["export_difference"] < 1e-4
    assert run_experiment(config, tmp_path / "run", resume=True) == result
    network, domains = load_trained(Run.open(tmp_path / "run"))
    assert evaluate(network, domains["target"]).accuracy == result["target_accuracy"]


def test_no_graph_of_a_run_stays_in_memory(bars, tmp_path, monkeypatch):
    def count_graphs():
        gc.collect()
        return sum(type(one).__name__ == "FuncGraph" and one.name == "after_data" for one in gc.get_objects())

    models, init = [], JointModel.__init__
    monkeypatch.setattr(
        JointModel,
        "__init__",
        lambda self, *args, **options: models.append(weakref.ref(self)) or init(self, *args, **options),
    )
    before = count_graphs()
    run_experiment(make_config(bars, "jtln", training={"steps": 2}), tmp_path / "run", export=False)
    keras.backend.clear_session()
    # Each training step has a graph of this name.
    assert count_graphs() <= before and len(models) == 1 and models[0]() is None


COSTS = CostMatrix(np.eye(4, 3), ("s0", "s1", "s2", "s7"), ("t0", "t1", "t2"))


@pytest.mark.parametrize(
    ("section", "options", "message"),
    [
        ("data", {"target": "folder:target?per_class=99"}, "`per_class` .*99"),
        ("data", {"target": "folder:target?classes=t9"}, "'t9'"),
        ("data", {"target": "folder:target?test_fraction=0"}, "The target must have test images"),
        ("network", {"backbone": "kerashub:./nowhere"}, "`backbone`=kerashub:./nowhere"),
        ("network", {"backbone": "BAD.keras"}, "`backbone` .*BAD.keras"),
        ("network", {"weights": "none.weights.h5"}, "`weights` .*none.weights.h5"),
        ("network", {"freeze_until": "no_such_layer"}, "`freeze_until` .*'no_such_layer'"),
        ("cost", {"matrix": "COSTS.npz", "refresh_steps": 0}, "`?cost_matrix`? .*'s3'.*"),
        ("cost", {"layer": "typo"}, "`cost_layer` .*'typo'"),
        ("cost", {"matrix": "mkmmd+taxonomy", "taxonomy": "columns:kind"}, "taxonomy"),
    ],
)
def test_what_does_not_fit_is_told_before_an_old_run_is_replaced(
    bars, tmp_path, monkeypatch, section, options, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "BAD.keras").write_text("no model")
    COSTS.save("COSTS.npz")
    old = Run(tmp_path / "run", make_config(bars))
    old.claim()
    with old.begin({}, 0):
        old.write_result({"steps": 12})
    config = replace(make_config(bars, "jtln", cost=("mkmmd", 4)), section, **options)
    with pytest.raises(InputError, match=message):
        run_experiment(config, tmp_path / "run", overwrite=True)
    assert Run.open(tmp_path / "run").read_result() == {"steps": 12}


def test_what_two_sections_ask_for_is_checked_before_a_folder_is_made(bars, tmp_path):
    data = {"target": "folder:target?validation_fraction=0"}
    config = make_config(bars, data=data, training={"early_stopping_epochs": 2})
    with pytest.raises(InputError, match="`early_stopping_epochs` needs target validation images"):
        run_experiment(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
