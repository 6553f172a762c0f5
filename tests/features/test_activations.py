import dataclasses

import keras
import numpy as np
import pytest

from jtln_tf.batches import pair_domains
from jtln_tf.config import DataConfig, InputError
from jtln_tf.data.domain import load_domain
from jtln_tf.features.activations import available_memory, cache_trunk, extract_activations


def build_trunk(seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input((12, 12, 1), name="image")
    return keras.Model(image, keras.layers.Conv2D(4, 3, padding="same", name="stem")(image), name="trunk")


def load_bars(bars, cache="memory", side="source", **options):
    return load_domain(f"folder:{bars}/{side}", image_size=12, channels=1, cache=cache, **options)


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_activations_are_those_of_each_image(bars, tmp_path, cache):
    split, trunk = load_bars(bars, cache, cache_dir=str(tmp_path)).train, build_trunk()
    expected = np.concatenate([trunk(images) for images, _ in split.dataset(100)])
    found = extract_activations(trunk, split, batch_size=7)
    np.testing.assert_allclose(found.images.values, expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found.labels, split.labels)
    images, labels = next(iter(found.dataset(100)))
    np.testing.assert_array_equal(images, found.images.values)
    np.testing.assert_array_equal(labels, split.labels)


def test_further_views_are_augmented_and_taken_in_turn(bars):
    domain, image = load_bars(bars), keras.Input((12, 12, 1))
    trunk = keras.Model(image, keras.layers.Identity()(image))
    split = extract_activations(
        trunk, domain.train, views=3, augment=lambda images, step: -np.float32(images) - 1000 * step, batch_size=100
    )
    count, plain = len(domain.train), domain.train.images.values.astype(np.float32)
    np.testing.assert_array_equal(split.images.values, np.concatenate([plain, -plain - 1000, -plain - 2000]))
    batches = pair_domains(dataclasses.replace(domain, train=split), None, source_batch=count, steps=4)
    levels = [float(np.min(images)) for images, _ in (batch["source"] for batch in batches)]
    # The passes see the image, its first view, its second, and the image again.
    assert [level >= 0 for level in levels] == [True, False, False, True]
    assert levels[1] > levels[2] + 500


def test_a_cached_trunk_replaces_training_and_validation_images(bars, tmp_path, capfd):
    domains = {side: load_bars(bars, side=side) for side in ("source", "target")}
    data = DataConfig(source_batch=6, source_augmentation="flip", cache="disk", cache_dir=str(tmp_path))
    trunk, count = build_trunk(), len(domains["source"].train)
    options = {"data": data, "steps": {"source": count // 3, "target": 0}}
    for most_views, seed, views, files in ((8, 0, 2, 2), (8, 0, 2, 2), (1, 0, 1, 3), (8, 1, 2, 4)):
        found = cache_trunk(trunk, domains, **options, most_views=most_views, seed=seed)
        assert found["target"] is domains["target"] and found["source"].test is domains["source"].test
        # No more views than passes.
        assert found["source"].train.views == views and isinstance(found["source"].train.images.values, np.memmap)
        assert found["source"].train.images.values.shape == (views * count, 12, 12, 4)
        assert len(list(tmp_path.glob("*.npy"))) == files
    assert "source trunk: 100%" in capfd.readouterr().err
    cache_trunk(build_trunk(seed=1), domains, **options, most_views=1, seed=0)
    assert len(list(tmp_path.glob("*.npy"))) == 6


def test_activations_that_are_not_finite_are_told(bars):
    trunk = build_trunk()
    trunk.get_layer("stem").set_weights([np.full((3, 3, 1, 4), np.nan, "float32"), np.zeros(4, "float32")])
    with pytest.raises(InputError, match="must give finite features"):
        extract_activations(trunk, load_bars(bars).train)


def test_memory_that_is_not_there_is_told_first(bars, monkeypatch):
    assert available_memory() > 0
    monkeypatch.setattr("jtln_tf.features.activations.available_memory", lambda: 2**20)
    with pytest.raises(InputError, match="`cache_features` must have 4 MiB .* Hint: --cache=disk, fewer"):
        extract_activations(build_trunk(), load_bars(bars).train, views=55)
