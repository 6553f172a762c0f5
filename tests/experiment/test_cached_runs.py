"""Runs on cached images and activations: the numbers of a run without a cache."""

import keras
import numpy as np
import pytest

import jtln_tf as jt
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.distribution import predict
from jtln_tf.evaluation import evaluate
from jtln_tf.experiment import assembly
from jtln_tf.experiment.assembly import load_trained
from jtln_tf.experiment.run import run_experiment
from jtln_tf.experiment.workdir import Run
from jtln_tf.features import activations
from jtln_tf.features.activations import CachedDomains
from tests.experiment.runs import assert_went_on, make_config, read_losses, replace, run_stopped_at


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
    passed = []

    def count(model, images):
        passed.append(len(images))
        return predict(model, images)

    monkeypatch.setattr(activations, "predict", count)
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
