"""Training on the activations of a frozen trunk must be training of the network on the images."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import jtln_tf as jt
from jtln_tf.config import DataConfig, InputError, NetworkConfig, TrainingConfig
from jtln_tf.costs.config import CostConfig
from jtln_tf.experiment.assembly import load_trained
from jtln_tf.experiment.run import run_experiment
from jtln_tf.experiment.workdir import Run
from jtln_tf.methods import find_method
from jtln_tf.trainer.callbacks import StepCounter


def residual_backbone():
    image = keras.Input((12, 12, 1), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", name="stem")(image)
    y = keras.layers.BatchNormalization(name="norm")(x)
    y = keras.layers.Conv2D(4, 3, padding="same", name="inner")(y)
    x = keras.layers.Add(name="add")([x, y])
    x = keras.layers.Activation("relu", name="relu")(x)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(x), name="backbone")


def make_config(
    bars, tmp_path, *, cache_features, method="jtln", cost="mkmmd", refresh=0, augmentation="none", **training
):
    return jt.ExperimentConfig(
        data=DataConfig(
            source="folder:source",
            target="folder:target?per_class=3&test_fraction=0.5",
            data_root=str(bars),
            image_size=16,
            channels=1,
            source_augmentation="none",
            target_augmentation=augmentation,
            source_batch=8,
            target_batch=6,
            cache="disk",
            cache_dir=str(tmp_path / "cache"),
        ),
        network=NetworkConfig(freeze_until="pool2", cache_features=cache_features),
        method=find_method(method)(),
        cost=CostConfig(matrix=cost, refresh_steps=refresh),
        training=TrainingConfig(**{"steps": 16, "steps_per_epoch": 4, "log_steps": 1, **training}),
    )


def read_metrics(workdir):
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    names = ("loss", "target_loss", "source_loss", "transport_loss", "target_validation_accuracy")
    return [entry[name] for entry in entries for name in names if name in entry]


@pytest.mark.parametrize("layer", ["pool1", "pool2"])
def test_refreshed_costs_by_a_layer_of_the_trunk_are_refused_before_anything_is_written(bars, tmp_path, layer):
    config = make_config(bars, tmp_path, cache_features=True, refresh=4)
    config = dataclasses.replace(config, cost=dataclasses.replace(config.cost, layer=layer))
    with pytest.raises(InputError, match=f"`cost_layer` must name a layer behind `freeze_until` .*Received: '{layer}'"):
        run_experiment(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_that_cannot_be_cut_is_told_before_costs_are_estimated(bars, tmp_path, monkeypatch):
    residual_backbone().save(tmp_path / "residual.keras")
    config = make_config(bars, tmp_path, cache_features=True)
    network = NetworkConfig(backbone=str(tmp_path / "residual.keras"), freeze_until="inner", cache_features=True)
    monkeypatch.setattr("jtln_tf.methods.jtln.costs.build_cost_matrix", None)
    with pytest.raises(InputError, match="`freeze_until` must name .*Received: 'inner'"):
        run_experiment(dataclasses.replace(config, network=network), tmp_path / "run")


def test_a_finished_run_is_exported_without_another_look_at_the_images(bars, tmp_path, monkeypatch):
    config = make_config(bars, tmp_path, cache_features=True, method="target_only", steps=2)
    first = run_experiment(config, tmp_path / "run", export=False)
    monkeypatch.setattr("jtln_tf.experiment.assembly.cache_trunk", None)
    again = run_experiment(config, tmp_path / "run", resume=True)
    assert again.pop("export_difference") < 1e-4
    assert again == first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "cost", "refresh"),
    [("jtln", "mkmmd", 0), ("jtln", "online", 4), ("jtln", "mkmmd", 8), ("consecutive", "mkmmd", 0)],
)
def test_without_augmentation_the_run_is_the_same(bars, tmp_path, method, cost, refresh):
    results, losses = [], []
    for cached in (False, True):
        workdir = tmp_path / str(cached)
        config = make_config(bars, tmp_path, cache_features=cached, method=method, cost=cost, refresh=refresh)
        results.append(run_experiment(config, workdir, export=cached))
        losses.append(read_metrics(workdir))
        # The whole network is what is saved: it is evaluated on images.
        network, domains = load_trained(Run.open(workdir))
        assert jt.evaluate(network, domains["target"]).accuracy == results[-1]["target_accuracy"]
    assert len(losses[0]) > 30
    # The same sums in another order.
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3, atol=1e-4)
    assert results[0]["target_accuracy"] == pytest.approx(results[1]["target_accuracy"], abs=0.06)


@pytest.mark.slow
def test_a_run_on_augmented_views_goes_on_where_it_was_stopped(bars, tmp_path):
    config = make_config(bars, tmp_path, cache_features=True, augmentation="crop,rotate")
    whole = run_experiment(config, tmp_path / "whole", export=False)
    half = dataclasses.replace(config, training=dataclasses.replace(config.training, early_stopping_epochs=0))

    class Stopped(Exception):
        pass

    original = StepCounter.on_train_batch_begin

    def stop_at_step_10(self, batch, logs=None):
        if self._state.step == 10:
            raise Stopped
        original(self, batch, logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepCounter, "on_train_batch_begin", stop_at_step_10)
        with pytest.raises(Stopped):
            run_experiment(half, tmp_path / "stopped", export=False)
    resumed = run_experiment(half, tmp_path / "stopped", resume=True, export=False)
    assert resumed["target_accuracy"] == whole["target_accuracy"]
    np.testing.assert_allclose(
        read_metrics(tmp_path / "stopped")[-20:], read_metrics(tmp_path / "whole")[-20:], rtol=1e-5
    )
