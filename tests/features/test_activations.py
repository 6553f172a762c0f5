import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.batches import pair_domains
from jtln_tf.config import DataConfig, InputError, NetworkConfig
from jtln_tf.data.domain import load_domain
from jtln_tf.features import activations
from jtln_tf.features.activations import FrozenTrunk, cache_trunk

SIDES = ("source", "target")


class CountingTrunk:
    """A trunk that counts the images that pass through it."""

    def __init__(self, seed=0):
        keras.utils.set_random_seed(seed)
        image = keras.Input((12, 12, 1), name="image")
        layer = keras.layers.Conv2D(4, 3, padding="same", name="stem")
        self.model, self.passed = keras.Model(image, layer(image), name="trunk"), 0

    def __call__(self, images, training):
        # Called once, when it is traced.
        with tf.control_dependencies([tf.py_function(self._count, [images], [])]):
            return self.model(tf.identity(images), training=training)

    def _count(self, images):
        self.passed += len(images)

    def __getattr__(self, name):
        return getattr(self.model, name)


def load(bars, cache="memory", **options):
    load_side = {"source": "source", "target": "target?test_fraction=0.3"}
    options = {"image_size": 12, "channels": 1, "cache": cache, "cache_dir": str(bars / "pixels"), **options}
    return {side: load_domain(f"folder:{bars}/{load_side[side]}", **options) for side in SIDES}


def replace(trunk, domains, folder, *, place="disk", views=1, policy="crop,rotate", steps=100, **options):
    data = DataConfig(
        source_augmentation=policy, target_augmentation=policy, source_batch=6, target_batch=6, cache_dir=str(folder)
    )
    network = NetworkConfig(cache_features=place, freeze_until="stem", cached_views=views, **options)
    return cache_trunk(FrozenTrunk(trunk), domains, data, network, dict.fromkeys(SIDES, steps))


def splits(domains):
    return [getattr(domains[side], name) for side in SIDES for name in ("train", "validation", "test")]


@pytest.mark.parametrize(("cache", "place"), [("memory", "disk"), ("none", "disk"), ("disk", "memory")])
def test_activations_are_those_of_each_image(bars, tmp_path, cache, place, capfd):
    trunk, domains = CountingTrunk(), load(bars, cache, cache_dir=str(tmp_path / "pixels"))
    found = replace(trunk, domains, tmp_path, place=place)
    for images, split in zip(splits(domains), splits(found), strict=True):
        expected = [trunk.model(pixels) for pixels, _ in images.batches(100)]
        np.testing.assert_allclose(split.images.values[:], np.concatenate(expected), rtol=1e-4, atol=1e-3)
        np.testing.assert_array_equal(split.labels, images.labels)
    assert trunk.passed == sum(map(len, splits(domains))) and "source features: 100%" in capfd.readouterr().err
    # Another process knows the images by their content alone, decoded or not.
    again, other = CountingTrunk(), load(bars, "none" if cache == "memory" else "memory", labels_per_class=3, seed=5)
    splits(replace(again, other, tmp_path))
    assert again.passed == (0 if place == "disk" else sum(map(len, splits(other))))
    assert ("features" in capfd.readouterr().err) == (place == "memory")
    third = CountingTrunk(seed=1)
    splits(replace(third, other, tmp_path))
    assert third.passed == sum(map(len, splits(other)))


def test_a_domain_passes_when_it_is_asked_for(bars, tmp_path):
    trunk, domains = CountingTrunk(), load(bars)
    found = replace(trunk, domains, tmp_path)
    assert trunk.passed == 0 and list(found) == list(SIDES)
    assert found["target"] is found["target"] and found["target"].class_names == domains["target"].class_names
    assert trunk.passed == sum(len(domains["target"].split(name)) for name in ("train", "validation", "test"))


def test_views_are_shared_by_draws_of_other_labels_and_taken_in_turn(bars, tmp_path):
    few, many = load(bars, labels_per_class=4, seed=3), load(bars)
    trunk = CountingTrunk()
    train = replace(trunk, many, tmp_path, views=3)["source"].train
    count, stored = len(many["source"].train), np.asarray(train.images.values)
    assert train.views == 3 and stored.shape == (3 * count, 12, 12, 4)
    views = stored.reshape(3, count, -1)
    assert len(np.unique(views[1:].reshape(2 * count, -1), axis=0)) == 2 * count
    batches = pair_domains(dataclasses.replace(many["source"], train=train), None, source_batch=count, steps=4)
    sums = [np.sort(np.sum(images, axis=(1, 2, 3))) for images, _ in (batch["source"] for batch in batches)]
    for step, view in enumerate((0, 1, 2, 0)):
        np.testing.assert_allclose(sums[step], np.sort(views[view].sum(axis=1)), rtol=1e-3, atol=0.1)

    before = trunk.passed
    own = replace(trunk, few, tmp_path, views=3)["source"].train
    assert trunk.passed == before
    rows = [
        int(np.flatnonzero((many["source"].train.images.values == pixels).all(axis=(1, 2, 3)))[0])
        for pixels in few["source"].train.images.values
    ]
    np.testing.assert_array_equal(np.asarray(own.images.values).reshape(3, len(rows), -1), views[:, rows])
    # No more views than passes, and only one if nothing is augmented.
    assert replace(trunk, few, tmp_path, views=3, steps=2)["source"].train.views == 1
    assert replace(trunk, few, tmp_path, views=3, policy="none")["source"].train.views == 1
    assert trunk.passed == before


def test_what_does_not_fit_memory_is_read_when_it_is_needed(bars, tmp_path, monkeypatch):
    trunk, domains = CountingTrunk(), load(bars)
    whole = replace(trunk, domains, tmp_path, views=2)["source"].train
    monkeypatch.setattr(activations, "available_memory", lambda: 0)
    lazy = replace(trunk, domains, tmp_path, views=2)["source"].train
    assert isinstance(whole.images.values, np.ndarray) and not isinstance(lazy.images.values, np.ndarray)
    for left, right in ((whole, lazy), (whole.take([3, 1]), lazy.take([3, 1]))):
        for (expected, _), (found, _) in zip(left.batches(5), right.batches(5), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_activations_are_kept_where_they_fit(bars, tmp_path, monkeypatch, caplog):
    trunk, domains = CountingTrunk(), load(bars)
    assert replace(trunk, domains, tmp_path, place="auto").store.folder
    assert replace(trunk, domains, tmp_path, place="auto", cache_limit_gib=1e-6).store.folder is None
    (tmp_path / "file").write_text("")
    assert replace(trunk, domains, tmp_path / "file", place="auto").store.folder is None
    monkeypatch.setattr(activations, "available_memory", lambda: 2**10)
    assert replace(trunk, domains, tmp_path, place="disk", cache_limit_gib=1e-6).store.folder
    assert replace(trunk, domains, tmp_path, place="auto", cache_limit_gib=1e-6) is None
    assert "activations are not cached" in caplog.text and "--cache_limit_gib=1e-06" in caplog.text
    with pytest.raises(InputError, match="`cache_features`=memory must have room .* Hint: --cache_features=disk"):
        replace(trunk, domains, tmp_path, place="memory")
    with pytest.raises(InputError, match="`cache_dir` must be a folder"):
        replace(trunk, domains, tmp_path / "file", place="disk")
    assert trunk.passed == 0


def test_activations_that_are_not_finite_are_told(bars, tmp_path):
    trunk = CountingTrunk()
    trunk.get_layer("stem").set_weights([np.full((3, 3, 1, 4), np.nan, "float32"), np.zeros(4, "float32")])
    with pytest.raises(InputError, match="must give finite features"):
        replace(trunk, load(bars), tmp_path)["source"]
