import pathlib

import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets as tfds

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.data import list_domain, load_domain
from jtln_tf.data.sources import tfds as tfds_file

CLASS_NAMES = ("circle", "square", "star")


class TinyShapes(tfds.core.GeneratorBasedBuilder):
    """Images whose gray value, the same in all pixels, tells which image it is and (modulo 3) its class."""

    VERSION = tfds.core.Version("1.0.0")
    SPLITS = {"train": range(30), "test": range(100, 109)}
    # The parity is not shared by the images of a class.
    LABELS = {"label": CLASS_NAMES, "corners": ["none", "some"], "parity": ["even", "odd"]}
    LABEL_KEYS = ("label",)

    def _info(self):
        features = {key: tfds.features.ClassLabel(names=self.LABELS[key]) for key in self.LABEL_KEYS}
        features |= {"image": tfds.features.Image(shape=(8, 8, 3))}
        keys = ("image", "label") if self.LABEL_KEYS else None
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=keys)

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(values) for name, values in self.SPLITS.items()}

    def _generate_examples(self, values):
        for value in values:
            labels = {"label": self._label(value), "corners": "some" if value % 3 else "none", "parity": value % 2}
            pixels = np.full((8, 8, 3), value, np.uint8)
            yield value, {"image": pixels, **{key: labels[key] for key in self.LABEL_KEYS}}

    def _label(self, value):
        return value % 3


class TinyUnlabelledTest(TinyShapes):
    def _label(self, value):
        return value % 3 if value < 100 else -1


class TinyTestOnly(TinyShapes):
    SPLITS = {"test": range(30)}


class TinyWithoutLabel(TinyShapes):
    LABEL_KEYS = ()


class TinyConfigured(TinyShapes):
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="plain"), tfds.core.BuilderConfig(name="fancy")]


class TinyRelated(TinyShapes):
    LABEL_KEYS = ("label", "corners", "parity")


class TinyUnreachable(TinyShapes):
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="plain")]

    def _split_generators(self, dl_manager):
        raise requests.exceptions.ConnectionError("Max retries exceeded\nwith url: http://nowhere")


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
    rows = [(images.numpy(), int(labels[0])) for images, labels in split.batches(1)]
    assert all((image == image.flat[0]).all() for image, _ in rows)
    return [int(image.flat[0]) for image, _ in rows], [label for _, label in rows]


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_splits_hold_every_image_once_with_its_label(data_root, tmp_path, cache):
    domain = load(data_root, "tiny_shapes", cache=cache, cache_dir=tmp_path)
    assert domain.class_names == CLASS_NAMES and domain.image_shape == (8, 8, 3)
    used = [values_and_labels(split) for split in (domain.train, domain.validation, domain.test)]
    assert all(value % 3 == label for values, labels in used for value, label in zip(values, labels, strict=True))
    assert sorted(used[0][0] + used[1][0]) == list(range(30)) and sorted(used[2][0]) == list(range(100, 109))


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_images_of_many_files_are_read_by_number(tmp_path, file_format, monkeypatch):
    monkeypatch.setattr(tfds_file, "_EXAMPLES_AT_ONCE", 4)
    options = {"data_dir": str(tmp_path), "file_format": file_format}
    shards = tfds.download.DownloadConfig(num_shards=3)
    TinyShapes(**options).download_and_prepare(download_config=shards)
    train, test = (list_domain("tfds:tiny_shapes", data_root=tmp_path).splits[name] for name in ("train", "test"))
    files = train.images.reader.paths
    assert len(files) == 6 and all(file_format in path for path in files)

    def values(examples):
        return [int(tf.io.decode_png(one)[0, 0, 0]) for one in examples.images.contents(range(len(examples)))]

    assert sorted(values(train)) == list(range(30)) and sorted(values(test)) == list(range(100, 109))
    assert [value % 3 for value in values(train)] == train.labels.tolist()
    assert values(train.take([29, 0, 7, 0])) == [values(train)[row] for row in (29, 0, 7, 0)]
    pathlib.Path(files[1]).write_bytes(pathlib.Path(files[1]).read_bytes()[:30])
    with pytest.raises(InputError, match="A shard must be whole.*-00001-of-00003'"):
        list_domain("tfds:tiny_shapes", data_root=tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tiny_test_only:test", range(30)),
        ("tiny_configured/fancy:test", range(100, 109)),
        # Images without a label are left out.
        ("tiny_unlabelled_test", range(30)),
    ],
)
def test_a_single_split_is_divided(data_root, name, expected):
    domain = load(data_root, f"{name}?validation_fraction=0")
    values = [values_and_labels(split)[0] for split in (domain.train, domain.validation, domain.test)]
    assert sorted(sum(values, [])) == list(expected) and not values[1] and 3 <= len(values[2]) < len(values[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny_shapes:validation", "A split must be one of .*train.* Received: 'validation'"),
        ("tiny_test_only", "without a train split needs tfds:NAME:SPLIT. Received: 'tfds:tiny_test_only'"),
        ("tiny_without_label", r"one image and one class label.*tiny_without_label.*labels \[\]"),
        ("tiny_configured/nope", "must name a data set and its CONFIG. Received: 'tiny_configured/nope'.*nope"),
        ("no_such_data_set/plain", "must name a data set of TensorFlow Datasets. Received: 'no_such_data_set/plain'"),
        ("tiny_related?corners=soma", "`corners` must be a value in the data set, for example some, .*'soma' in"),
        ("tiny_related?parity=odd", r"or a column of the data set \(corners, label\). Received: 'parity'"),
        # Before gigabytes are downloaded.
        ("cifar10?per_clas=3", "must be one of classes, .*, crop_bottom. Received: 'per_clas' in 'tfds:cifar10"),
        ("cifar100?coarse=trees", r"or a column of the data set \(coarse_label, label\). Received: 'coarse'"),
    ],
)
def test_data_sets_that_do_not_fit(data_root, name, message):
    with pytest.raises(InputError, match=message):
        load(data_root, name)
    assert not list(pathlib.Path(data_root).glob("cifar*"))


def test_shared_labels_are_columns_of_the_class_table(data_root):
    domain = load(data_root, "tiny_related")
    corners = {"circle": "none", "square": "some", "star": "some"}
    assert domain.class_table == {name: {"label": name, "corners": corners[name]} for name in CLASS_NAMES}
    chosen = load(data_root, "tiny_related?corners=some&exclude=star")
    assert chosen.class_names == ("square",)
    assert {value % 3 for value in values_and_labels(chosen.train)[0]} == {1}


@pytest.mark.parametrize("content", [None, "folder", "none"])
def test_failed_download_is_one_line_and_leaves_what_was_there(tmp_path, content):
    mine = tmp_path / "root" / "tiny_unreachable"
    if content:
        (mine / "photos" if content == "folder" else mine).mkdir(parents=True)
    with pytest.raises(InputError, match="^`tfds:tiny_unreachable` must be .*: Max retries exceeded. Hint") as caught:
        load(tmp_path / "root", "tiny_unreachable")
    assert "\n" not in str(caught.value) and not isinstance(caught.value, MissingInputError)
    assert mine.exists() == bool(content) and (mine / "photos").is_dir() == (content == "folder")


def test_without_a_network_a_download_fails_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_file, "can_reach", lambda _: False)
    with pytest.raises(InputError, match="^`tfds:cifar10` must be .*kriz/cifar.* cannot be reached. Hint") as caught:
        load(tmp_path, "cifar10")
    by_hand = f"put cifar-10-binary.tar.gz into '{tmp_path}/downloads/manual'; builtin:, folder:, list: and records:"
    assert by_hand in str(caught.value) and "\n" not in str(caught.value)
    assert tfds.core.download.downloader._open_url.__name__ == "_open_url"
