"""Image classification data sets of TensorFlow Datasets, and those that this package adds to them.

Their prepared files are read by number, so that memory holds a few images. TensorFlow Datasets itself reads TFRecord
files, its default, only in passes (`as_dataset`), and ArrayRecord files only by number (`as_data_source`).
"""

import contextlib
import os
import pathlib
import shutil
import urllib.parse
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from jtln_tf.config import DomainSpec, InputError, MissingInputError
from jtln_tf.config.network_access import WITHOUT_NETWORK, can_reach
from jtln_tf.data.examples import Examples
from jtln_tf.data.reading.decoding import explain_error
from jtln_tf.data.reading.images import Records, constant_on_cpu
from jtln_tf.data.reading.record_reader import RecordReader, TFRecordShard, open_array_record
from jtln_tf.data.sources.class_table import shared_columns
from jtln_tf.data.sources.listing import Listing, require_columns, select_classes
from jtln_tf.files import first_line

_EXAMPLES_AT_ONCE = 256
# Of the servers of a data set, how many are asked, and of its files, how many are named.
_MOST_SERVERS, _NAMED_FILES = 2, 4
_OPENERS = {"tfrecord": TFRecordShard, "array_record": open_array_record}


def list_tfds(spec: DomainSpec, data_root: str = "", cache_dir: str = "") -> Listing:
    """Lists a `tfds:NAME[/CONFIG][:SPLIT]` domain; the data set is downloaded and prepared first if necessary.

    All labels are read, and no image is decoded. A named SPLIT is the only one used and is divided like a folder.
    Further class labels, such as the `coarse_label` of cifar100, are columns of the class table if all images of a
    class share them. The prepared data sets are in `data_root`; empty is TFDS's own default.
    """
    del cache_dir
    name, _, split = spec.name.partition(":")
    builder = _make_builder(name, data_root)
    image_key, label_key, label_keys = _find_features(builder)
    # A misspelt column is reported before gigabytes are downloaded.
    require_columns(spec, label_keys if len(label_keys) > 1 else ())
    _prepare(builder, name)
    found = builder.info.splits
    if split and split not in found:
        raise InputError(f"A split must be one of {', '.join(found)}. Received: {split!r}.")
    wanted = [split] if split else [one for one in ("train", "validation", "test") if one in found]
    if not split and "train" not in wanted:
        raise InputError(f"A data set without a train split needs tfds:NAME:SPLIT. Received: {spec.text!r}.")
    reader = ExampleReader(builder, wanted, image_key)
    labels = reader.read_labels(label_keys)
    splits, end = {}, 0
    for one in wanted:
        first, end = end, end + sum(found[one].shard_lengths)
        names = [f"{builder.info.full_name}:{one}[{position}]" for position in range(end - first)]
        numbers, own = Records(np.arange(first, end), reader), labels[label_key][first:end].astype(np.int32)
        # TFDS writes -1 for an image without a label.
        examples = Examples(numbers, own, np.array(names, object)).take(np.flatnonzero(own >= 0))
        # Some data sets publish their test images without labels. Test images are held out then, as of a folder.
        if one == split or one == "train" or len(examples):
            splits["train" if one == split else one] = examples
    features = builder.info.features
    table = _class_table(features, label_key, labels)
    return select_classes(Listing(tuple(features[label_key].names), splits, class_table=table), spec)


class ExampleReader(RecordReader):
    """Reads examples of a prepared data set by number, counted through some of its splits."""

    def __init__(self, builder, splits: Sequence[str], image_key: str):
        """Opens no file yet; raises `InputError` if the data set is prepared in another format than `_OPENERS`."""
        file_format = builder.info.file_format.value
        if file_format not in _OPENERS:
            received = f"{file_format!r} in {str(builder.data_dir)!r}"
            raise InputError(f"A data set must be prepared as one of {', '.join(_OPENERS)}. Received: {received}.")
        infos = [builder.info.splits[split] for split in splits]
        paths = [os.fspath(path) for info in infos for path in info.filepaths]
        sizes = [size for info in infos for size in info.shard_lengths]
        super().__init__(paths, sizes, open_shard=_OPENERS[file_format])
        self._image_key = image_key

    def read(self, numbers: Sequence[int]) -> np.ndarray:
        """Returns the encoded images at `numbers`, an object array of bytes [N]."""
        return self._parse(numbers, {self._image_key: tf.string})[self._image_key]

    def read_labels(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """Returns some class labels of all examples: int64 [N] by feature."""
        numbers = np.arange(sum(self._sizes))
        chunks = np.split(numbers, numbers[_EXAMPLES_AT_ONCE::_EXAMPLES_AT_ONCE])
        parts = [self._parse(chunk, dict.fromkeys(keys, tf.int64)) for chunk in chunks]
        return {key: np.concatenate([part[key] for part in parts]) for key in keys}

    def _parse(self, numbers, types):
        records = constant_on_cpu(super().read(numbers).tolist(), tf.string)
        # Not `features.deserialize_example_np`: it parses all features, one example at a time.
        try:
            parsed = tf.io.parse_example(records, {key: tf.io.FixedLenFeature([], kind) for key, kind in types.items()})
        except tf.errors.InvalidArgumentError as error:
            folder = os.path.dirname(self.paths[0])
            raise InputError(f"A shard must be whole. Received: one in {folder!r} ({explain_error(error)}).") from error
        return {key: values.numpy() for key, values in parsed.items()}


def _make_builder(name, data_root):
    import tensorflow_datasets as tfds

    # Importing them registers them.
    from jtln_tf.data.sources import builders  # noqa: F401

    try:
        return tfds.builder(name, data_dir=data_root or None)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(f"`tfds:` must name a data set of TensorFlow Datasets. Received: {name!r}.") from error
    except ValueError as error:
        received = f"{name!r} ({first_line(error)})"
        raise InputError(f"`tfds:` must name a data set and its CONFIG. Received: {received}.") from error


def _prepare(builder, name):
    folders = [pathlib.Path(builder.data_dir_root, name) for name in (builder.name, "downloads")]
    new_folders = [folder for folder in folders if not os.path.lexists(folder)]
    try:
        with _without_downloads(builder):
            builder.download_and_prepare()
    # A builder may raise anything.
    except Exception as error:
        for folder in new_folders:
            _remove_empty(folder)
        # TFDS's own message has the instructions in it, on several lines.
        reason = first_line(error).split(" Create it and ")[0]
        instructions = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
        is_missing = isinstance(error, AssertionError | FileNotFoundError | tf.errors.NotFoundError)
        if instructions and (is_missing or isinstance(error, InputError)):
            manual_dir = pathlib.Path(builder.data_dir_root, "downloads", "manual")
            raise (MissingInputError if is_missing else InputError)(
                f"`tfds:{name}` needs files that are downloaded by hand, in manual_dir = {str(manual_dir)!r}. {reason} "
                f"Hint: {instructions}"
            ) from error
        raise InputError(
            f"`tfds:{name}` must be prepared in {str(builder.data_dir_root)!r}, or be there to download. Received: "
            f"{reason.rstrip('.')}. Hint: without a network, copy the folder {builder.name!r} from a machine with one"
            f"{_name_downloads(builder)}; {WITHOUT_NETWORK}."
        ) from error


@contextlib.contextmanager
def _without_downloads(builder):
    """Lets a preparation fail at its first download if its servers are out of reach; TFDS would try for minutes.

    Files that are already there are used nevertheless.
    """
    from tensorflow_datasets.core.download import downloader

    servers = {} if builder.is_prepared() else _servers(builder)
    if not servers or any(map(can_reach, list(servers)[:_MOST_SERVERS])):
        yield
        return

    def refuse(url, **_):
        raise OSError(f"{url} cannot be reached")

    # TFDS has no setting for it.
    open_url, downloader._open_url = downloader._open_url, refuse
    try:
        yield
    finally:
        downloader._open_url = open_url


def _servers(builder):
    """Returns the web servers of a data set's files, as far as TFDS knows them."""
    parts = [urllib.parse.urlsplit(url) for url in builder.url_infos or ()]
    return dict.fromkeys(f"{one.scheme}://{one.netloc}" for one in parts if one.scheme in ("http", "https"))


def _name_downloads(builder):
    """Returns what is said of the files that can be put by hand where TFDS finds them."""
    names = [info.filename for info in (builder.url_infos or {}).values() if info.filename]
    if not names:
        return ""
    shown = ", ".join(names[:_NAMED_FILES]) + f" ({len(names) - _NAMED_FILES} more)" * (len(names) > _NAMED_FILES)
    return f", or put {shown} into {os.path.join(builder.data_dir_root, 'downloads', 'manual')!r}"


def _remove_empty(folder):
    """Removes what a failed preparation leaves, unless another configuration is or is being prepared there."""

    def is_content(path):
        return path.is_file() or path.is_symlink() or path.name.startswith("incomplete.")

    with contextlib.suppress(OSError):
        found = [one for one in folder.rglob("*") if is_content(one)]
        if all(one.parent.name == ".config" for one in found):
            shutil.rmtree(folder)


def _find_features(builder):
    """Returns the names of the image, of its class label, and of all class labels."""
    import tensorflow_datasets as tfds

    kinds = builder.info.features.items()
    images = [key for key, kind in kinds if isinstance(kind, tfds.features.Image)]
    labels = [key for key, kind in kinds if isinstance(kind, tfds.features.ClassLabel)]
    supervised = builder.info.supervised_keys
    if supervised and supervised[0] in images and supervised[1] in labels:
        return *supervised, labels
    if len(images) != 1 or len(labels) != 1:
        raise InputError(
            "A tfds: data set must have one image and one class label for each example. "
            f"Received: {builder.info.full_name} with images {images} and labels {labels}."
        )
    return images[0], labels[0], labels


def _class_table(features, label_key, labels):
    """Returns the labels that all images of a class share, by class name and feature."""
    is_labelled = labels[label_key] >= 0
    known = {key: values[is_labelled] for key, values in labels.items() if (values[is_labelled] >= 0).all()}
    combinations = np.unique(np.stack(list(known.values()), axis=1), axis=0)
    rows = [dict(zip(known, row, strict=True)) for row in combinations.tolist()]
    return shared_columns([{key: features[key].names[row[key]] for key in row} for row in rows], label_key)
