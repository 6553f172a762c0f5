"""Whole runs on small real files, stopped and killed where that is the point."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import jtln_tf as jt
from jtln_tf.config import InputError, NonFiniteLossError, RunInterruptedError, RunStoppedError
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.data import load_domain
from jtln_tf.evaluation import evaluate
from jtln_tf.experiment import assembly
from jtln_tf.experiment.assembly import load_trained
from jtln_tf.experiment.run import run_experiment
from jtln_tf.experiment.workdir import Run
from jtln_tf.features.activations import CachedDomains
from jtln_tf.trainer.callbacks import StepCounter
from jtln_tf.trainer.checkpoints import read_state
from tests.experiment.runs import make_config, read_losses, replace, run_stopped_at

SECONDS_TO_A_CHECKPOINT = 120
ALL_OF_IT = {"source_augmentation": "crop,flip,zoom,mixup", "target_augmentation": "colour,erase,randaugment,mixup:1"}


def assert_went_on(stopped, whole, results):
    expected, found = read_losses(whole), read_losses(stopped)
    assert sorted(found) == sorted(expected)
    # Threads may add float32 sums in another order; the batches, and so the losses, are the same.
    np.testing.assert_allclose([found[key] for key in expected], list(expected.values()), rtol=1e-3, atol=1e-4)
    assert results[0]["steps"] == results[1]["steps"]
    assert results[0]["target_accuracy"] == pytest.approx(results[1]["target_accuracy"], abs=0.06)


@pytest.mark.slow
def test_a_killed_process_goes_on_as_if_nothing_had_happened(bars, tmp_path, repository):
    options, training = {"transport_start_step": 4}, {"steps": 40}
    config = make_config(bars, "jtln", cost=("online", 4), options=options, data=ALL_OF_IT, training=training)
    code = (
        "import sys, jtln_tf as jt\n"
        "config = jt.ExperimentConfig.from_json(open(sys.argv[1]).read())\n"
        "jt.run_experiment(config, sys.argv[2], export=False)\n"
    )
    (tmp_path / "config.json").write_text(config.to_json())
    # A name that TensorFlow would take for a pattern.
    workdir = tmp_path / "seed[1]"
    command = [sys.executable, "-c", code, tmp_path / "config.json", workdir]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=repository, **quiet)
    deadline = time.monotonic() + SECONDS_TO_A_CHECKPOINT
    while not (workdir / "checkpoints" / "last.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (workdir / "result.json").exists()
    results = [run_experiment(config, tmp_path / name, resume=True, export=False) for name in ("seed[1]", "whole")]
    assert_went_on(workdir, tmp_path / "whole", results)


@pytest.mark.slow
@pytest.mark.parametrize("step", [6, 8])
def test_two_stages_go_on_inside_the_second_and_at_its_beginning(bars, tmp_path, step):
    config = make_config(bars, "l2_sp", data={"target_augmentation": "randaugment:1,mixup"})
    run_stopped_at(config, tmp_path / "stopped", step)
    results = [run_experiment(config, tmp_path / name, resume=True, export=False) for name in ("stopped", "whole")]
    assert_went_on(tmp_path / "stopped", tmp_path / "whole", results)


@pytest.mark.slow
def test_a_finished_run_is_exported_loaded_kept_and_replaced(bars, tmp_path):
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
def test_a_run_that_stopped_early_is_not_trained_on_when_it_is_resumed(bars, tmp_path):
    config = make_config(bars, training={"steps": 400, "early_stopping_epochs": 1})
    first = run_experiment(config, tmp_path, export=False)
    assert first["best_step"] < first["steps"] < 400
    (tmp_path / "result.json").unlink()
    again = run_experiment(config, tmp_path, resume=True, export=False)
    assert {**again, "train_seconds": 0} == {**first, "train_seconds": 0}


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


@pytest.mark.slow
def test_a_signal_saves_the_step_that_it_came_in(bars, tmp_path, monkeypatch):
    config = make_config(bars, "joint", training={"log_steps": 5}, network={"head_dropout": 0.2})
    begin = StepCounter.on_train_batch_begin

    def send(self, batch, logs=None):
        begin(self, batch, logs)
        if self._state.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    former = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError, match="SIGTERM; step 7 is saved") as told:
        patch.setattr(StepCounter, "on_train_batch_begin", send)
        run_experiment(config, tmp_path / "stopped", export=False)
    assert told.value.signal == signal.SIGTERM and signal.getsignal(signal.SIGTERM) == former
    assert read_state(tmp_path / "stopped" / "checkpoints").step == 7
    results = [run_experiment(config, tmp_path / name, resume=True, export=False) for name in ("stopped", "whole")]
    assert_went_on(tmp_path / "stopped", tmp_path / "whole", results)


@pytest.mark.slow
def test_streamed_and_cached_images_train_alike_with_the_costs_of_a_file(bars, tmp_path):
    CostMatrix(np.eye(4, 3), ("s3", "s1", "s2", "s0"), ("t0", "t1", "t2")).save(tmp_path / "cost.npz")
    for cache in ("memory", "none"):
        data, cost = {"cache": cache, "source_augmentation": "crop"}, (str(tmp_path / "cost.npz"), 0)
        run_experiment(make_config(bars, "jtln", cost=cost, data=data), tmp_path / cache, export=False)
        # In the order of the run's classes.
        np.testing.assert_array_equal(Run.open(tmp_path / cache).read_costs().values[:, 0], [0, 0, 0, 1])
    cached, streamed = (read_losses(tmp_path / cache) for cache in ("memory", "none"))
    np.testing.assert_allclose(list(cached.values()), list(streamed.values()), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("cost", [("online", 4), ("mkmmd", 8)])
def test_on_a_cached_trunk_the_run_is_the_same(bars, tmp_path, cost):
    results, data = [], {"cache": "disk", "cache_dir": str(tmp_path / "cache")}
    for cached in (False, True):
        network = {"freeze_until": "pool2", "cache_features": "disk" if cached else "none"}
        config = make_config(bars, "jtln", cost=cost, network=network, data=data)
        results.append(run_experiment(config, tmp_path / str(cached), export=cached))
    # The whole network is what is saved: it is evaluated on images.
    trained, domains = load_trained(Run.open(tmp_path / "True"))
    assert evaluate(trained, domains["target"]).accuracy == results[1]["target_accuracy"]
    assert_went_on(tmp_path / "True", tmp_path / "False", results)


@pytest.mark.slow
def test_augmented_views_of_a_cached_trunk_go_on_where_they_were_stopped(bars, tmp_path, monkeypatch):
    network, data = {"freeze_until": "pool2", "cached_views": 3}, {"target_augmentation": "crop,rotate"}
    config = make_config(bars, network=network, data={**data, "cache_dir": str(tmp_path / "cache")})
    run_stopped_at(config, tmp_path / "stopped", 10)
    results = [run_experiment(config, tmp_path / name, resume=True, export=False) for name in ("stopped", "whole")]
    assert_went_on(tmp_path / "stopped", tmp_path / "whole", results)
    monkeypatch.setattr(CachedDomains, "__getitem__", None)
    assert run_experiment(config, tmp_path / "whole", resume=True)["export_difference"] < 1e-4


@pytest.mark.slow
def test_a_strong_start_goes_on_where_it_was_stopped(bars, tmp_path):
    network = {"start": "strong", "neck": "whitened", "freeze_until": "all"}
    config = make_config(bars, "jtln", cost=("class_means", 0), network=network)
    run_stopped_at(config, tmp_path / "stopped", 10)
    results = [run_experiment(config, tmp_path / name, resume=True, export=False) for name in ("stopped", "whole")]
    assert_went_on(tmp_path / "stopped", tmp_path / "whole", results)
    assert results[0]["transport_agreement"] == results[1]["transport_agreement"]


@pytest.mark.parametrize("method", ["nearest_mean", "linear_probe"])
def test_methods_without_training_are_evaluated_exported_and_found_again(bars, tmp_path, method):
    config = make_config(bars, method, network={"start": "strong", "neck": "whitened"})
    result = run_experiment(config, tmp_path / "run")
    assert result["steps"] == 0 and result["export_difference"] < 1e-4
    assert run_experiment(config, tmp_path / "run", resume=True) == result
    network, domains = load_trained(Run.open(tmp_path / "run"))
    assert evaluate(network, domains["target"]).accuracy == result["target_accuracy"]


def test_what_the_start_alone_reads_of_a_trunk_keeps_to_the_limit(bars, tmp_path, monkeypatch):
    image = keras.Input((16, 16, 1))
    trunk = keras.layers.Dense(4)(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image)))
    keras.Model(image, trunk).save(tmp_path / "trunk.keras")
    looked_at = []
    monkeypatch.setattr(assembly, "warn_of_pixel_range", lambda model, *rest: looked_at.append(model))
    network = {"backbone": str(tmp_path / "trunk.keras"), "freeze_until": "all", "cache_limit_gib": 0.0}
    config = make_config(bars, "nearest_mean", network=network, data={"cache_dir": str(tmp_path / "cache")})
    run_experiment(config, tmp_path / "run", export=False)
    assert not list((tmp_path / "cache").rglob("shard_*"))
    # The range of pixels is judged by features as the backbone gives them, not by their directions.
    assert [layer.name for layer in looked_at[0].layers if layer.name == "neck"] == []


@pytest.mark.slow
def test_no_image_passes_through_a_trunk_twice(bars, tmp_path, monkeypatch):
    passed, predict = [], keras.Model.predict_on_batch

    def count(self, images):
        if self.name == "trunk":
            passed.append(len(images))
        return predict(self, images)

    monkeypatch.setattr(keras.Model, "predict_on_batch", count)
    backbone = jt.build_network("small_cnn", 4, 3, image_shape=(16, 16, 1)).get_layer("backbone")
    backbone.save_weights(tmp_path / "cnn.weights.h5")
    network = {"freeze_until": "pool2", "weights": str(tmp_path / "cnn.weights.h5")}
    data = {"cache_dir": str(tmp_path / "cache")}
    config = make_config(bars, "joint", network=network, data={**data, "target": "folder:target?test_fraction=0.5"})
    run_experiment(config, tmp_path / "first", export=False)
    # All images of both domains, each once.
    assert sum(passed) == 12 * 7
    for name, changed in (
        ("again", config),
        ("seed", replace(make_config(bars, "consecutive", network=network, data=data), "training", seed=1)),
        ("costs", make_config(bars, "jtln", cost=("mkmmd", 4), network=network, data={**data, "cache": "none"})),
        ("prior", make_config(bars, "jtln", cost=("mkmmd", 0), network=network, data=data)),
    ):
        run_experiment(changed, tmp_path / name, export=False)
        assert sum(passed) == 12 * 7, name
    # What needs the images themselves takes them.
    layer = replace(make_config(bars, "jtln", cost=("mkmmd", 4), network=network, data=data), "cost", layer="pool1")
    run_experiment(layer, tmp_path / "layer", export=False)
    mixed = make_config(bars, "joint", network=network, data={**data, "source_augmentation": "mixup"})
    run_experiment(replace(mixed, "network", cache_limit_gib=0.0), tmp_path / "mixed", export=False)
    kept = list((tmp_path / "cache").rglob("shard_*"))
    assert sum(passed) == 12 * 7 and kept
    run_experiment(replace(config, "network", cache_limit_gib=0.0, weights="none"), tmp_path / "memory", export=False)
    assert sum(passed) == 2 * 12 * 7 and list((tmp_path / "cache").rglob("shard_*")) == kept


@pytest.mark.slow
def test_a_disk_that_fills_up_while_training_stops_the_run_with_one_line(bars, tmp_path, small_disk, monkeypatch):
    # Room for the configuration and the logs, not for a checkpoint of small_cnn and its moments (2 MB).
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(RunStoppedError, match=r"A checkpoint must be writable\. Received: .* at step 4 "):
        run_experiment(make_config(bars, "joint"), small_disk / "run")
    assert not (small_disk / "run" / "result.json").exists()


def test_images_that_vanish_stop_the_run_with_one_line(bars, tmp_path, monkeypatch):
    shutil.copytree(bars, tmp_path / "data")
    config = make_config(tmp_path / "data", data={"cache": "none"})

    def lose(source, target):
        for path in target.train.images:
            pathlib.Path(path).unlink()
        return {}

    monkeypatch.setattr("jtln_tf.experiment.assembly.count_leaks", lose)
    with pytest.raises(RunStoppedError, match="Every image must stay readable .* which has gone"):
        run_experiment(config, tmp_path / "run")


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
