"""Training on what a frozen trunk makes of the images must be training of the network on the images."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import jtln_tf as jt
from jtln_tf.batches import pair_domains
from jtln_tf.config import CostConfig, DataConfig, InputError, NetworkConfig, ObjectiveConfig, TrainingConfig
from jtln_tf.data import load_domain
from jtln_tf.experiment import load_trained_network, run_experiment
from jtln_tf.features import extract_activations
from jtln_tf.network import build_network, cut_network, features_model, logits_model

IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 12, 12, 1)).astype("float32")


def residual_backbone():
    image = keras.Input((12, 12, 1), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", name="stem")(image)
    y = keras.layers.BatchNormalization(name="norm")(x)
    y = keras.layers.Conv2D(4, 3, padding="same", name="inner")(y)
    x = keras.layers.Add(name="add")([x, y])
    x = keras.layers.Activation("relu", name="relu")(x)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(x), name="backbone")


def build_residual():
    return build_network(residual_backbone(), 5, 3, image_shape=(12, 12, 1), head_hidden_units=(6,), head_dropout=0.3)


@pytest.mark.parametrize("layer", ["image", "stem", "add", "relu", "pool"])
def test_the_two_parts_are_the_network(layer):
    network = build_residual()
    trunk, rest = cut_network(network, layer)
    expected, found = network(IMAGES), rest(trunk(IMAGES))
    for side in ("source", "target"):
        np.testing.assert_allclose(found[side], expected[side], rtol=1e-5, atol=1e-7)
        logits = logits_model(rest)(trunk(IMAGES))[side]
        np.testing.assert_allclose(keras.ops.softmax(logits), expected[side], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(features_model(rest)(trunk(IMAGES)), features_model(network)(IMAGES), rtol=1e-5)
    shared = {id(variable) for variable in network.variables}
    assert {id(variable) for variable in (*trunk.variables, *rest.variables)} == shared


def test_a_cut_through_a_shortcut_is_refused_and_others_named():
    with pytest.raises(InputError, match=r"`freeze_until` must name .* such as (stem|add).*Received: 'inner'"):
        cut_network(build_residual(), "inner")
    with pytest.raises(InputError, match="must name a layer of the backbone, such as pool. Received: 'poool'"):
        cut_network(build_residual(), "poool")


def test_a_cut_behind_a_layer_with_two_outputs_is_refused():
    class Halves(keras.layers.Layer):
        def call(self, inputs):
            return inputs[..., :6], inputs[..., 6:]

    image = keras.Input((12,), name="image")
    upper, _ = Halves(name="halves")(image)
    backbone = keras.Model(image, keras.layers.Dense(3, name="dense")(upper), name="backbone")
    with pytest.raises(InputError, match="`freeze_until` must name .* such as (image|dense).*Received: 'halves'"):
        cut_network(build_network(backbone, 2, 2, image_shape=(12,)), "halves")


def load_bars(bars, cache="memory", **options):
    return load_domain(f"folder:{bars}/source", image_size=12, channels=1, cache=cache, **options)


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_activations_are_what_the_trunk_makes_of_each_image(bars, tmp_path, cache):
    split = load_bars(bars, cache, cache_dir=str(tmp_path)).train
    trunk, _ = cut_network(build_residual(), "add")
    expected = np.concatenate([trunk(images) for images, _ in split.dataset(100)])
    found = extract_activations(trunk, split, batch_size=7)
    np.testing.assert_allclose(found.images, expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found.labels, split.labels)
    images, labels = next(iter(found.dataset(100)))
    np.testing.assert_array_equal(images, found.images)
    np.testing.assert_array_equal(labels, split.labels)


def test_further_views_are_augmented_and_taken_in_turn(bars):
    domain = load_bars(bars)
    trunk, _ = cut_network(build_residual(), "image")
    split = extract_activations(
        trunk, domain.train, views=3, augment=lambda images, step: -np.float32(images) - 1000 * step, batch_size=100
    )
    count, plain = len(domain.train), domain.train.images.astype(np.float32)
    np.testing.assert_array_equal(split.images[:count], plain)
    np.testing.assert_array_equal(split.images[count : 2 * count], -plain - 1000)
    np.testing.assert_array_equal(split.images[2 * count :], -plain - 2000)
    rows = np.array([3, 0])
    np.testing.assert_array_equal(split.take(rows).images[:2], plain[rows])
    np.testing.assert_array_equal(split.take(rows).images[2:4], -plain[rows] - 1000)
    cached = dataclasses.replace(domain, train=split)
    batches = pair_domains(cached, None, source_batch=count, steps=4)
    levels = [float(np.min(images)) for images, _ in (batch["source"] for batch in batches)]
    # The passes see the image, its first view, its second, and the image again.
    assert [level >= 0 for level in levels] == [True, False, False, True]
    assert levels[1] > levels[2] + 500


def test_activations_on_the_disk_follow_trunk_and_key(bars, tmp_path):
    split = load_bars(bars).train
    first, second = (cut_network(build_residual(), "add")[0] for _ in range(2))
    folder = tmp_path / "cache"
    for trunk, key, files in ((first, "a", 1), (first, "a", 1), (first, "b", 2), (second, "a", 3)):
        found = extract_activations(trunk, split, folder=folder, key=key)
        assert isinstance(found.images, np.memmap) and len(list(folder.glob("*.npy"))) == files
        np.testing.assert_allclose(found.images, extract_activations(trunk, split).images, rtol=1e-5, atol=1e-5)


def test_features_that_are_not_finite_are_told(bars):
    trunk, _ = cut_network(build_residual(), "stem")
    trunk.get_layer("stem").set_weights([np.full((3, 3, 1, 4), np.nan, "float32"), np.zeros(4, "float32")])
    with pytest.raises(InputError, match="must give finite features"):
        extract_activations(trunk, load_bars(bars).train)


def make_config(bars, tmp_path, *, cache_features, cost="mkmmd", refresh=0, augmentation=(), **training):
    return jt.ExperimentConfig(
        data=DataConfig(
            source="folder:source",
            target="folder:target?per_class=3&test_fraction=0.5",
            data_root=str(bars),
            image_size=16,
            channels=1,
            source_augmentation=(),
            target_augmentation=augmentation,
            source_batch=8,
            target_batch=6,
            cache="disk",
            cache_dir=str(tmp_path / "cache"),
        ),
        network=NetworkConfig(freeze_until="pool2", cache_features=cache_features),
        objective=ObjectiveConfig(),
        cost=CostConfig(cost_matrix=cost, cost_refresh_steps=refresh),
        training=TrainingConfig(**{"steps": 16, "steps_per_epoch": 4, "log_steps": 1, **training}),
    )


def read_metrics(workdir):
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    names = ("loss", "target_loss", "source_loss", "transport_loss", "target_validation_accuracy")
    return [entry[name] for entry in entries for name in names if name in entry]


@pytest.mark.parametrize("layer", ["pool1", "pool2"])
def test_refreshed_costs_by_a_layer_of_the_trunk_are_refused_before_anything_is_written(bars, tmp_path, layer):
    config = make_config(bars, tmp_path, cache_features=True, refresh=4)
    config = dataclasses.replace(config, cost=dataclasses.replace(config.cost, cost_layer=layer))
    with pytest.raises(InputError, match=f"`cost_layer` must name a layer behind `freeze_until` .*Received: '{layer}'"):
        run_experiment(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_that_cannot_be_cut_is_told_before_costs_are_estimated(bars, tmp_path, monkeypatch):
    residual_backbone().save(tmp_path / "residual.keras")
    config = make_config(bars, tmp_path, cache_features=True)
    network = NetworkConfig(backbone=str(tmp_path / "residual.keras"), freeze_until="inner", cache_features=True)
    monkeypatch.setattr("jtln_tf.experiment.run.prior_costs", None)
    with pytest.raises(InputError, match="`freeze_until` must name .*Received: 'inner'"):
        run_experiment(dataclasses.replace(config, network=network), tmp_path / "run")


def test_a_finished_run_is_exported_without_another_look_at_the_images(bars, tmp_path, monkeypatch):
    config = make_config(bars, tmp_path, cache_features=True, method="target_only", steps=2)
    first = run_experiment(config, tmp_path / "run", export=False)
    monkeypatch.setattr("jtln_tf.experiment.run.cache_trunk", None)
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
        _, network, _, target = load_trained_network(workdir)
        assert jt.evaluate(network, target).accuracy == results[-1]["target_accuracy"]
    assert len(losses[0]) > 30
    # The same sums in another order.
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3, atol=1e-4)
    assert results[0]["target_accuracy"] == pytest.approx(results[1]["target_accuracy"], abs=0.06)


@pytest.mark.slow
def test_a_run_on_augmented_views_goes_on_where_it_was_stopped(bars, tmp_path):
    config = make_config(bars, tmp_path, cache_features=True, augmentation=("crop", "rotate"))
    whole = run_experiment(config, tmp_path / "whole", export=False)
    half = dataclasses.replace(config, training=dataclasses.replace(config.training, early_stopping_epochs=0))
    from jtln_tf.trainer import StepCounter

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


def test_it_needs_a_frozen_layer():
    with pytest.raises(InputError, match="`cache_features` needs `freeze_until`"):
        NetworkConfig(cache_features=True)
