import dataclasses
import os
import pathlib

import keras
import numpy as np
import pytest

from jtln_tf.config import InputError
from jtln_tf.data import Split, load_domain
from jtln_tf.features import (
    FeatureCache,
    _available_memory,
    extract_activations,
    extract_class_features,
    fingerprint_model,
    layer_model,
    stream_class_features,
)


@pytest.fixture(scope="module")
def split():
    return load_domain("builtin:optdigits?per_class=5", image_size=8).train


def build_model(seed=0, filters=6):
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(filters, 3, activation="relu", name="conv")(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, keras.layers.Dense(4, name="dense")(x), name="small")


class CountingModel:
    """A model that counts the images it looks at, and may break off like a kill would."""

    def __init__(self, model, breaks_after=None):
        self.model, self.seen, self.breaks_after = model, 0, breaks_after

    def predict_on_batch(self, images):
        if self.breaks_after is not None and self.seen >= self.breaks_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        return self.model.predict_on_batch(images)

    def to_json(self):
        return self.model.to_json()

    @property
    def variables(self):
        return self.model.variables


def test_a_stream_is_what_is_extracted(split):
    model = build_model()
    parts = list(stream_class_features(model, split, 5, batch_size=16))
    assert [len(labels) for _, labels in parts] == [16, 16, 16, 2]
    features, labels = extract_class_features(model, split, 5, batch_size=16)
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), features)
    np.testing.assert_array_equal(labels, np.repeat(np.arange(10), 5))


def test_cached_features_are_the_same_and_are_not_computed_again(split, tmp_path):
    counting, cache = CountingModel(build_model()), FeatureCache(tmp_path / "a" / "b", data="x")
    expected, _ = extract_class_features(counting.model, split, 5, batch_size=16)
    for _ in range(2):
        features, labels = extract_class_features(counting, split, 5, batch_size=16, cache=cache)
        np.testing.assert_array_equal(features, expected)
        np.testing.assert_array_equal(labels, np.repeat(np.arange(10), 5))
        assert features.flags.writeable
    assert counting.seen == 50


def test_an_extraction_that_broke_off_goes_on_where_it_was(split, tmp_path):
    model, cache = build_model(), FeatureCache(tmp_path, data="x")
    with pytest.raises(KeyboardInterrupt):
        extract_class_features(CountingModel(model, breaks_after=32), split, 5, batch_size=16, cache=cache)
    assert len(os.listdir(tmp_path)) == 2
    rest = CountingModel(model)
    features, _ = extract_class_features(rest, split, 5, batch_size=16, cache=cache)
    assert rest.seen == 18
    np.testing.assert_array_equal(features, extract_class_features(model, split, 5, batch_size=16)[0])


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"", lambda content: b"\0" * 300])
def test_damaged_files_are_computed_again(split, tmp_path, damage):
    counting, cache = CountingModel(build_model()), FeatureCache(tmp_path, data="x")
    expected, _ = extract_class_features(counting, split, 5, batch_size=16, cache=cache)
    victim = sorted(tmp_path.iterdir())[1]
    victim.write_bytes(damage(victim.read_bytes()))
    features, _ = extract_class_features(counting, split, 5, batch_size=16, cache=cache)
    np.testing.assert_array_equal(features, expected)
    assert 50 < counting.seen <= 66


def test_pickles_in_the_cache_are_not_opened(split, tmp_path):
    counting, cache = CountingModel(build_model()), FeatureCache(tmp_path, data="x")
    extract_class_features(counting, split, 5, batch_size=50, cache=cache)
    (file,) = tmp_path.iterdir()
    np.save(file, np.array([{"a": 1}] * 50, object), allow_pickle=True)
    extract_class_features(counting, split, 5, batch_size=50, cache=cache)
    assert counting.seen == 100


def test_other_data_models_views_and_augmentations_have_files_of_their_own(split, tmp_path):
    model, counts = build_model(), []
    for wanted, views, data in (
        (model, 5, "x"),
        (model, 5, "y"),
        (model, 4, "x"),
        (build_model(seed=1), 5, "x"),
        (build_model(filters=7), 5, "x"),
    ):
        extract_class_features(wanted, split, views, batch_size=50, cache=FeatureCache(tmp_path, data=data))
        counts.append(len(os.listdir(tmp_path)))
    assert counts == [1, 2, 3, 4, 5]


def test_augmented_views_follow_the_number_of_the_batch_when_some_are_cached(split, tmp_path):
    steps = []

    def augment(images, step):
        steps.append(step)
        return images + np.float32(step)

    model, cache = build_model(), FeatureCache(tmp_path, data="x")
    expected, _ = extract_class_features(model, split, 5, augment, batch_size=20, cache=cache)
    middle = cache.path(fingerprint_model(model), [1, *np.arange(50)[np.argsort(split.labels, kind="stable")][20:40]])
    middle.unlink()
    features, _ = extract_class_features(model, split, 5, augment, batch_size=20, cache=cache)
    np.testing.assert_array_equal(features, expected)
    assert steps == [0, 1, 2, 1]


@pytest.mark.parametrize("kind", ["pixels", "paths"])
def test_all_batches_are_read_as_one_stream_each_image_once(split, tmp_path, monkeypatch, kind):
    if kind == "paths":
        paths = [str(tmp_path / f"{row}.png") for row in range(len(split))]
        for path, image in zip(paths, split.images, strict=True):
            keras.utils.save_img(path, image, scale=False)
        split = dataclasses.replace(split, images=np.array(paths, object))
    read, original = [], Split.read

    def count(self, batches):
        read.append([rows.numpy().tolist() for rows in batches])
        return original(self, batches)

    monkeypatch.setattr(Split, "read", count)
    model, steps = build_model(), []

    def augment(images, step):
        steps.append(step)
        return np.float32(images) + step

    cache = FeatureCache(tmp_path / "cache", data="x")
    extract_class_features(model, split, 12, augment, batch_size=25, cache=cache)
    assert len(read) == 1 and steps == [0, 1, 2, 3, 4]
    # Of each class 12 views of 5 images.
    assert [len(rows) for rows in read[0]] == [len(set(rows)) for rows in read[0]] == [11, 12, 13, 14, 10]


def test_memory_that_is_not_there_is_told_first(split, monkeypatch):
    monkeypatch.setattr("jtln_tf.features._available_memory", lambda: 2**20)
    model = build_model()
    trunk = keras.Model(model.input, model.get_layer("conv").output)
    assert len(extract_activations(trunk, split).images) == 50
    with pytest.raises(
        InputError, match="`cache_features` must have 2 MiB .* Hint: --cache=disk, fewer --cached_views"
    ):
        extract_activations(trunk, split, views=55, augment=None)


def test_available_memory_is_part_of_all():
    assert 0 < _available_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_full_disk_leaves_nothing_half_written(split, tmp_path, monkeypatch):
    def write_half(path, content):
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="No space left"):
        extract_class_features(build_model(), split, 5, cache=FeatureCache(tmp_path, data="x"))
    assert not os.listdir(tmp_path)


def test_progress_counts_images(split):
    done = []
    extract_class_features(build_model(), split, 3, batch_size=8, progress=done.append)
    assert done == [8, 8, 8, 6]


def test_fingerprint_follows_layers_and_weights():
    one = build_model()
    before = fingerprint_model(one)
    assert fingerprint_model(one) == before
    one.get_layer("dense").bias.assign([0.0, 0.0, 0.0, 1e-7])
    assert fingerprint_model(one) != before
    assert fingerprint_model(build_model(filters=7)) != before


def test_layers_by_name():
    model = build_model()
    images = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 1)).astype("float32")
    assert layer_model(model, "") is model
    maps = keras.Model(model.input, model.get_layer("conv").output)(images).numpy()
    np.testing.assert_allclose(layer_model(model, "conv")(images), maps.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(layer_model(model, "pool")(images), maps.mean(axis=(1, 2)), rtol=1e-5)
    assert layer_model(model, "conv").name == "small_conv"


def test_layers_that_do_not_fit():
    with pytest.raises(
        InputError, match="`cost_layer` must name a layer of the backbone, such as dense. Received: 'x'"
    ):
        layer_model(build_model(), "x")
    image = keras.Input((8, 8, 1))
    rows = keras.layers.Reshape((8, 8), name="rows")(image)
    model = keras.Model(image, keras.layers.Flatten()(rows))
    with pytest.raises(
        InputError, match=r"features or feature maps. Received: 'rows' with the output shape \[None, 8, 8\]"
    ):
        layer_model(model, "rows")


class Halves(keras.layers.Layer):
    """A layer with two outputs, whose configuration Keras cannot tell."""

    def __init__(self, at, **kwargs):
        super().__init__(**kwargs)
        self.at = at

    def call(self, inputs):
        return inputs[:, : int(self.at)], inputs[:, int(self.at) :]


def test_layers_with_two_outputs_or_without_a_configuration():
    image = keras.Input((8, 8, 1))
    upper, _ = Halves(np.array(4), name="halves")(image)
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(upper)))
    with pytest.raises(InputError, match="must name a layer with one output. Received: 'halves' with 2"):
        layer_model(model, "halves")
    before = fingerprint_model(model)
    assert fingerprint_model(model) == before
    model.layers[-1].bias.assign([0.0, 0.0, 1e-7])
    assert fingerprint_model(model) != before


def test_layers_without_a_configuration_do_not_hide_those_of_others():
    def build(strides):
        image = keras.Input((8, 8, 1), name="image")
        upper, _ = Halves(np.array(4), name="halves")(image)
        x = keras.layers.MaxPooling2D(1, strides=strides, padding="same", name="pool")(upper)
        return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="mean")(x), name="model")

    assert fingerprint_model(build(1)) == fingerprint_model(build(1)) != fingerprint_model(build(2))
