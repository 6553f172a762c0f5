import numpy as np
import pytest
import tensorflow_datasets as tfds

from jtln_tf.config import InputError
from jtln_tf.domains import load_domain

CLASS_NAMES = ("circle", "square", "star")


def example(value, label):
    return {"image": np.full((8, 8, 3), value, np.uint8), "label": label}


class TinyShapes(tfds.core.GeneratorBasedBuilder):
    """Images whose gray value, the same in all pixels, tells which image it is and (modulo 3) its class."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        label = tfds.features.ClassLabel(names=CLASS_NAMES)
        features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(8, 8, 3)), "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 30), "test": self._generate_examples(100, 109)}

    def _generate_examples(self, begin, end):
        for value in range(begin, end):
            yield value, example(value, value % 3)


class TinyUnlabelledTest(TinyShapes):
    """Its test images have no labels."""

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 30), "test": self._generate_unlabelled()}

    def _generate_unlabelled(self):
        for value in range(5):
            yield value, example(value, -1)


class TinyTestOnly(TinyShapes):
    """Has no split called train."""

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples(0, 30)}


class TinyWithoutLabel(TinyShapes):
    """Has images and no class label."""

    def _info(self):
        features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(8, 8, 3)), "label": np.int64})
        return tfds.core.DatasetInfo(builder=self, features=features)


class TinyConfigured(TinyShapes):
    """Has two configurations."""

    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="plain"), tfds.core.BuilderConfig(name="fancy")]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """A folder of prepared data sets."""
    folder = str(tmp_path_factory.mktemp("tfds"))
    for builder in (TinyShapes, TinyUnlabelledTest, TinyTestOnly, TinyWithoutLabel):
        builder(data_dir=folder).download_and_prepare()
    TinyConfigured(data_dir=folder, config="fancy").download_and_prepare()
    return folder


def load(data_root, text, **arguments):
    return load_domain(f"tfds:{text}", data_root=data_root, image_size=8, **arguments)


def values_and_labels(split):
    """Of each image, in order: its gray value (equal in all its pixels) and its label."""
    rows = [(images.numpy(), int(labels[0])) for images, labels in split.dataset(1)]
    assert all((image == image.flat[0]).all() for image, _ in rows)
    return [int(image.flat[0]) for image, _ in rows], [label for _, label in rows]


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_splits_hold_every_image_once_with_its_label(data_root, cache):
    domain = load(data_root, "tiny_shapes", cache=cache)
    assert domain.class_names == CLASS_NAMES and domain.image_shape == (8, 8, 3)
    assert domain.train.is_decoded == (cache == "memory")
    used = []
    for split in (domain.train, domain.validation, domain.test):
        values, labels = values_and_labels(split)
        assert [value % 3 if value < 100 else (value - 100 + 1) % 3 for value in values] == labels
        assert split.labels.tolist() == labels
        used.append(values)
    assert sorted(used[0] + used[1]) == list(range(30)) and sorted(used[2]) == list(range(100, 109))
    # A tenth of each class's 10 images.
    assert np.bincount(domain.validation.labels).tolist() == [1, 1, 1]


def test_both_caches_read_the_same_images(data_root):
    memory, none = (load(data_root, "tiny_shapes?per_class=3", cache=cache).train for cache in ("memory", "none"))
    assert values_and_labels(memory) == values_and_labels(none)


def test_choice_of_classes_and_labels(data_root):
    domain = load(data_root, "tiny_shapes?classes=st*,circle&per_class=4", seed=3)
    assert domain.class_names == ("circle", "star")
    values, labels = values_and_labels(domain.train)
    assert sorted(labels) == [0] * 4 + [1] * 4
    assert [value % 3 for value in values] == [0 if label == 0 else 2 for label in labels]
    assert np.bincount(domain.test.labels).tolist() == [3, 3]
    with pytest.raises(InputError, match="`classes` must name classes of the domain, for example star.*'stars'"):
        load(data_root, "tiny_shapes?classes=stars")
    with pytest.raises(InputError, match="`per_class` must not exceed.*class 'circle' has 9"):
        load(data_root, "tiny_shapes?per_class=10")


def test_channels_and_size(data_root):
    domain = load_domain("tfds:tiny_shapes?per_class=1", data_root=data_root, image_size=12, channels=1)
    assert domain.train.images.shape == (3, 12, 12, 1)


def test_named_split_is_the_only_one_and_is_divided(data_root):
    domain = load(data_root, "tiny_shapes:test?validation_fraction=0")
    values = [values_and_labels(split)[0] for split in (domain.train, domain.validation, domain.test)]
    assert sorted(sum(values, [])) == list(range(100, 109))
    assert [len(one) for one in values] == [6, 0, 3]
    with pytest.raises(InputError, match="A split must be one of .*train.* Received: 'validation'"):
        load(data_root, "tiny_shapes:validation")


def test_images_without_label_are_left_out(data_root):
    domain = load(data_root, "tiny_unlabelled_test?validation_fraction=0")
    values = [values_and_labels(split)[0] for split in (domain.train, domain.test)]
    assert sorted(sum(values, [])) == list(range(30)) and len(values[1]) == 6


def test_data_set_without_train_split(data_root):
    with pytest.raises(
        InputError, match="without a train split needs tfds:NAME:SPLIT. Received: 'tfds:tiny_test_only'"
    ):
        load(data_root, "tiny_test_only")
    assert len(load(data_root, "tiny_test_only:test").train) > 0


def test_data_set_without_class_label(data_root):
    with pytest.raises(InputError, match=r"one image and one class label.*tiny_without_label.*labels \[\]"):
        load(data_root, "tiny_without_label")


def test_configuration_of_a_data_set(data_root):
    assert len(load(data_root, "tiny_configured/fancy:test").test) > 0
    with pytest.raises(InputError, match="must name a data set and its CONFIG. Received: 'tiny_configured/nope'.*nope"):
        load(data_root, "tiny_configured/nope")


@pytest.mark.parametrize("name", ["no_such_data_set", "no_such_data_set/plain"])
def test_unknown_data_set(data_root, name):
    with pytest.raises(InputError, match=f"must name a data set of TensorFlow Datasets. Received: '{name}'"):
        load(data_root, name)


def test_name_that_is_no_name(data_root):
    with pytest.raises(InputError, match="`tfds:` must name a data set.*'No Name'"):
        load(data_root, "No Name")
