import dataclasses
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.data.domain import load_domain
from jtln_tf.data.reading.split import Split
from jtln_tf.features.class_features import stream_class_features
from jtln_tf.features.feature_cache import FeatureCache


@pytest.fixture(scope="module")
def split():
    return load_domain("builtin:optdigits?per_class=5", image_size=8).train


def build_model(seed=0):
    keras.utils.set_random_seed(seed)
    # Named, so that the model has the same fingerprint in another process.
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(image)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(x), name="small")


class CountingModel:
    """A model that counts the images it looks at, and may kill the process."""

    def __init__(self, model, kills_after=None):
        self.model, self.seen, self.kills_after = model, 0, kills_after
        self.distribute_strategy = model.distribute_strategy

    def __call__(self, images, training):
        # Called once, when it is traced.
        with tf.control_dependencies([tf.py_function(self._count, [images], [])]):
            return self.model(tf.identity(images), training=training)

    def _count(self, images):
        if self.seen == self.kills_after:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen += len(images)

    def to_json(self):
        return self.model.to_json()

    @property
    def variables(self):
        return self.model.variables


def put_on_disk(split, folder):
    """The same split, its images decoded each time they are read."""
    paths = [str(folder / f"{row}.png") for row in range(len(split))]
    for path, image in zip(paths, split.images.values, strict=True):
        keras.utils.save_img(path, image, scale=False)
    return dataclasses.replace(split, images=np.array(paths, object))


def extract(*arguments, **options):
    features, labels = zip(*stream_class_features(*arguments, **options), strict=True)
    return np.concatenate(features), np.concatenate(labels)


@pytest.mark.parametrize(("on_disk", "batch_size"), [(False, 7), (True, 7), (False, 1000)])
def test_features_are_of_the_first_images_class_by_class(split, tmp_path, on_disk, batch_size):
    # Classes of 5 images, one of 2, and one of none.
    split = split.take(np.random.default_rng(0).permutation(50))
    split = split.take(
        np.setdiff1d(np.arange(50), [*np.flatnonzero(split.labels == 3)[:3], *(split.labels == 8).nonzero()[0]])
    )
    read = put_on_disk(split, tmp_path) if on_disk else split
    rows = np.concatenate([np.flatnonzero(split.labels == label)[:4] for label in np.unique(split.labels)])
    model = build_model()
    pixels, labels = extract(None, read, 4, batch_size=batch_size)
    np.testing.assert_array_equal(np.bincount(labels), [4, 4, 4, 2, 4, 4, 4, 4, 0, 4])
    assert labels.dtype == np.int32 and pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, split.images.values[rows].reshape(len(rows), -1) / 255.0, rtol=1e-6)
    features, _ = extract(model, read, 4, batch_size=batch_size)
    # Batches of another size may sum float32 in another order.
    np.testing.assert_allclose(features, model(split.images.values[rows].astype("float32")), rtol=1e-4, atol=1e-6)


def test_augmented_views_cycle_through_the_images_and_each_is_read_once(split, tmp_path, monkeypatch):
    read, steps, original = [], [], Split.read

    def count(self, batches):
        read.append([rows.numpy().tolist() for rows in batches])
        return original(self, batches)

    def augment(images, step):
        steps.append((images.dtype, step))
        return np.float32(images)[:, :, ::-1] + step

    monkeypatch.setattr(Split, "read", count)
    features, labels = extract(None, put_on_disk(split, tmp_path), 12, augment=augment, batch_size=25)
    assert len(read) == 1 and steps == [(np.uint8, step) for step in range(5)]
    # Of each class 12 views of 5 images.
    assert [len(rows) for rows in read[0]] == [len(set(rows)) for rows in read[0]] == [11, 12, 13, 14, 10]
    rows = np.concatenate([np.resize(np.flatnonzero(split.labels == label), 12) for label in range(10)])
    expected = split.images.values[rows][:, :, ::-1] + (np.arange(120) // 25)[:, None, None, None].astype("float32")
    np.testing.assert_allclose(features, expected.reshape(120, -1) / 255, rtol=1e-6)
    np.testing.assert_array_equal(labels, np.repeat(np.arange(10), 12))


def test_batches_are_kept_and_not_computed_again(split, tmp_path):
    counting, cache = CountingModel(build_model()), FeatureCache(tmp_path / "a" / "b", data="x")
    expected = extract(counting.model, split, 5, batch_size=16)
    for _ in range(2):
        for found, wanted in zip(extract(counting, split, 5, batch_size=16, cache=cache), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert counting.seen == 50 and len(list((tmp_path / "a" / "b").iterdir())) == 4


def extract_and_die(folder):
    """Kills its own process after two batches."""
    split = load_domain("builtin:optdigits?per_class=5", image_size=8).train
    model = CountingModel(build_model(), kills_after=32)
    extract(model, split, 5, batch_size=16, cache=FeatureCache(folder, data="x"))


@pytest.mark.slow
def test_a_killed_extraction_goes_on_where_it_was(split, tmp_path, repository):
    code = f"from tests.features.test_class_features import extract_and_die; extract_and_die({str(tmp_path)!r})"
    killed = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True)
    assert killed.returncode == -signal.SIGKILL and len(os.listdir(tmp_path)) == 2
    rest = CountingModel(build_model())
    features, _ = extract(rest, split, 5, batch_size=16, cache=FeatureCache(tmp_path, data="x"))
    assert rest.seen == 18
    np.testing.assert_array_equal(features, extract(rest.model, split, 5, batch_size=16)[0])


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"\0" * 300, None])
def test_damaged_files_and_pickles_are_computed_again(split, tmp_path, damage):
    counting, cache = CountingModel(build_model()), FeatureCache(tmp_path, data="x")
    expected, _ = extract(counting, split, 5, batch_size=50, cache=cache)
    (victim,) = tmp_path.iterdir()
    if damage:
        victim.write_bytes(damage(victim.read_bytes()))
    else:
        np.save(victim, np.array([{"a": 1}] * 50, object), allow_pickle=True)
    features, _ = extract(counting, split, 5, batch_size=50, cache=cache)
    np.testing.assert_array_equal(features, expected)
    assert counting.seen == 100 and os.listdir(tmp_path) == [victim.name]
