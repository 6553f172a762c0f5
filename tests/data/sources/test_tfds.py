import pathlib

import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets as tfds

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.data import list_domain, load_domain, write_records
from jtln_tf.data.sources import tfds as tfds_file

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


class TinyRelated(TinyShapes):
    """Has further labels: the number of corners, shared by a class, and the parity, which is not."""

    def _info(self):
        label = tfds.features.ClassLabel(names=CLASS_NAMES)
        corners = tfds.features.ClassLabel(names=["none", "some"])
        parity = tfds.features.ClassLabel(names=["even", "odd"])
        image = tfds.features.Image(shape=(8, 8, 3))
        features = {"image": image, "label": label, "corners": corners, "parity": parity}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _generate_examples(self, begin, end):
        for key, row in super()._generate_examples(begin, end):
            yield key, {**row, "corners": "some" if row["label"] else "none", "parity": key % 2}


class TinyUnreachable(TinyShapes):
    """Its download fails."""

    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="plain")]

    def _split_generators(self, dl_manager):
        raise requests.exceptions.ConnectionError("Max retries exceeded\nwith url: http://nowhere")


class TinyManual(TinyShapes):
    """Its files are downloaded by hand."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put shapes.zip
    into manual_dir.
    """

    def _split_generators(self, dl_manager):
        return {"train": self._read(dl_manager.manual_dir / "shapes.zip")}

    def _read(self, path):
        yield 0, example(len(path.read_bytes()), 0)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """A folder of prepared data sets."""
    folder = str(tmp_path_factory.mktemp("tfds"))
    for builder in (TinyShapes, TinyRelated, TinyUnlabelledTest, TinyTestOnly, TinyWithoutLabel):
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


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_splits_hold_every_image_once_with_its_label(data_root, tmp_path, cache):
    domain = load(data_root, "tiny_shapes", cache=cache, cache_dir=tmp_path)
    assert domain.class_names == CLASS_NAMES and domain.image_shape == (8, 8, 3)
    assert domain.train.is_decoded == (cache != "none")
    used = []
    for split in (domain.train, domain.validation, domain.test):
        values, labels = values_and_labels(split)
        assert [value % 3 if value < 100 else (value - 100 + 1) % 3 for value in values] == labels
        assert split.labels.tolist() == labels
        used.append(values)
    assert sorted(used[0] + used[1]) == list(range(30)) and sorted(used[2]) == list(range(100, 109))
    # A tenth of each class's 10 images.
    assert np.bincount(domain.validation.labels).tolist() == [1, 1, 1]


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_images_of_many_files_are_read_by_number(tmp_path, file_format, monkeypatch):
    monkeypatch.setattr(tfds_file, "_EXAMPLES_AT_ONCE", 4)
    options = {"data_dir": str(tmp_path), "file_format": file_format}
    shards = tfds.download.DownloadConfig(num_shards=3)
    TinyShapes(**options).download_and_prepare(download_config=shards)
    train, test = (list_domain("tfds:tiny_shapes", data_root=tmp_path).splits[name] for name in ("train", "test"))
    files = train.images.reader.paths
    assert len(files) == 6 and all(file_format in path for path in files)
    found = {"train": [], "test": []}
    for name, examples in (("train", train), ("test", test)):
        for encoded, label in zip(examples.images.contents(range(len(examples))), examples.labels, strict=True):
            value = int(tf.io.decode_png(encoded)[0, 0, 0])
            assert value % 3 == label
            found[name].append(value)
    assert sorted(found["train"]) == list(range(30)) and sorted(found["test"]) == list(range(100, 109))
    few = train.take([29, 0, 7, 0]).images.contents(range(4))
    assert [int(tf.io.decode_png(encoded)[0, 0, 0]) for encoded in few] == [
        found["train"][row] for row in (29, 0, 7, 0)
    ]
    pathlib.Path(files[1]).write_bytes(pathlib.Path(files[1]).read_bytes()[:30])
    with pytest.raises(InputError, match="A shard must be whole.*-00001-of-00003'"):
        list_domain("tfds:tiny_shapes", data_root=tmp_path)


def test_a_data_set_is_packed_in_its_order(data_root, tmp_path):
    write_records(list_domain("tfds:tiny_shapes", data_root=data_root), tmp_path / "records", images_per_shard=4)
    packed, original = load_domain(f"records:{tmp_path}/records", image_size=8), load(data_root, "tiny_shapes")
    for name in ("train", "validation", "test"):
        assert values_and_labels(packed.split(name)) == values_and_labels(original.split(name))


def test_examples_without_the_image_are_told(data_root):
    listing = list_domain("tfds:tiny_shapes", data_root=data_root)
    reader = listing.splits["train"].images.reader
    reader._image_key = "picture"
    with pytest.raises(InputError, match=r"A shard must be whole. Received: one in '.*tiny_shapes/1.0.0' \(.*picture"):
        reader.read([0])


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


@pytest.mark.parametrize("name", ["no_such_data_set", "no_such_data_set/plain", "No Name"])
def test_unknown_data_set(data_root, name):
    with pytest.raises(InputError, match=f"`tfds:` must name a data set.* Received: '{name}'"):
        load(data_root, name)


def test_shared_labels_are_columns_of_the_class_table(data_root):
    domain = load(data_root, "tiny_related")
    assert domain.class_names == CLASS_NAMES
    corners = {"circle": "none", "square": "some", "star": "some"}
    assert domain.class_table == {name: {"label": name, "corners": corners[name]} for name in CLASS_NAMES}
    chosen = load(data_root, "tiny_related?corners=some&exclude=star")
    assert chosen.class_names == ("square",)
    assert {value % 3 for value in values_and_labels(chosen.train)[0]} == {1}
    with pytest.raises(InputError, match="`corners` must be a value in the data set, for example some, .*'soma' in"):
        load(data_root, "tiny_related?corners=soma")
    with pytest.raises(InputError, match=r"or a column of the data set \(corners, label\). Received: 'parity'"):
        load(data_root, "tiny_related?parity=odd")


def test_misspelt_option_is_told_before_the_download(data_root):
    options = "classes, exclude, per_class, test_fraction, validation_fraction, crop_bottom"
    with pytest.raises(InputError, match=f"must be one of {options}. Received: 'per_clas' in 'tfds:cifar10"):
        load(data_root, "cifar10?per_clas=3")
    match = rf"must be one of {options}, or a column of the data set \(coarse_label, label\). Received: 'coarse'"
    with pytest.raises(InputError, match=match):
        load(data_root, "cifar100?coarse=trees")
    assert not pathlib.Path(data_root, "cifar100").exists()


def test_failed_download_is_one_line_and_leaves_nothing(tmp_path):
    with pytest.raises(InputError) as caught:
        load(tmp_path, "tiny_unreachable")
    message = str(caught.value)
    assert (
        "`tfds:tiny_unreachable` must be prepared in" in message and "Received: Max retries exceeded. Hint" in message
    )
    assert "\n" not in message and not isinstance(caught.value, MissingInputError)
    assert not (tmp_path / "tiny_unreachable").exists()


@pytest.mark.parametrize("content", ["link", "folder", "none"])
def test_a_folder_that_was_there_stays_when_the_download_fails(tmp_path, content):
    mine = tmp_path / "root" / "tiny_unreachable"
    mine.mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    if content == "link":
        (mine / "photos").symlink_to(tmp_path / "photos")
    if content == "folder":
        (mine / "photos").mkdir()
    with pytest.raises(InputError, match="`tfds:tiny_unreachable` must be prepared in"):
        load(tmp_path / "root", "tiny_unreachable")
    assert mine.is_dir() and (mine / "photos").is_dir() == (content != "none")


@pytest.mark.parametrize("other", [False, True])
def test_missing_manual_download_is_one_line_that_tells_what_to_do(tmp_path, other):
    if other:
        (tmp_path / "downloads" / "manual" / "another").mkdir(parents=True)
    with pytest.raises(MissingInputError) as caught:
        load(tmp_path, "tiny_manual")
    message = str(caught.value)
    assert f"in manual_dir = '{tmp_path}/downloads/manual'" in message
    assert message.endswith("Hint: Put shapes.zip into manual_dir.") and "\n" not in message
    assert not (tmp_path / "tiny_manual").exists()
