"""Image classification data sets of TensorFlow Datasets, and those that this package adds to it."""

import contextlib
import functools
import itertools
import os
import pathlib
import shutil

import numpy as np

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.data.examples import Examples
from jtln_tf.data.sources.listing import Listing, require_columns, select_classes


def list_tfds(spec, data_root="", cache_dir=""):
    """Lists a `tfds:NAME[/CONFIG][:SPLIT]` domain; the data set is prepared (downloaded) where it is not yet.

    Labels are read first, in a pass that decodes nothing; the bytes of images that are not used are never held. A
    named SPLIT is the only one used and is divided like a folder. Class labels beside the one that is used, such as the
    `coarse_label` of cifar100, are columns of the class table where all images of a class share them.

    Args:
        spec: `DomainSpec`.
        data_root: Folder of the prepared data sets; empty is TFDS's own default.
        cache_dir: Unused.

    Raises:
        MissingInputError: If the data set is not prepared, and files for it must be downloaded by hand.
        InputError: If there is no such data set, split or column, it cannot be downloaded, or it has no image with one
            class label.
    """
    del cache_dir
    name, _, split = spec.name.partition(":")
    builder = _make_builder(name, data_root)
    image_key, label_key = _find_features(builder)
    label_keys = _label_keys(builder)
    # What cannot be a column is told before gigabytes are downloaded.
    require_columns(spec, label_keys if len(label_keys) > 1 else ())
    _prepare(builder, name)
    if split and split not in builder.info.splits:
        raise InputError(f"A split must be one of {', '.join(builder.info.splits)}. Received: {split!r}.")
    wanted = [split] if split else [one for one in ("train", "validation", "test") if one in builder.info.splits]
    if not split and "train" not in wanted:
        raise InputError(f"A data set without a train split needs tfds:NAME:SPLIT. Received: {spec.text!r}.")
    class_names = tuple(builder.info.features[label_key].names)
    labels = {one: _read_labels(builder, one) for one in wanted}
    splits = {("train" if one == split else one): _list_split(builder, one, labels[one][label_key]) for one in wanted}
    # Some data sets publish their test images without labels: then test images are held out like a folder's.
    splits = {one: examples for one, examples in splits.items() if one == "train" or len(examples)}
    fetch = functools.partial(_fetch_encoded, builder, image_key)
    table = _class_table(builder, label_key, labels.values())
    return select_classes(Listing(class_names, splits, fetch=fetch, class_table=table), spec)


def _make_builder(name, data_root):
    import tensorflow_datasets as tfds

    # Importing them registers them.
    from jtln_tf.data import builders  # noqa: F401

    try:
        return tfds.builder(name, data_dir=data_root or None)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(f"`tfds:` must name a data set of TensorFlow Datasets. Received: {name!r}.") from error
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"`tfds:` must name a data set and its CONFIG. Received: {name!r} ({reason}).") from error


def _prepare(builder, name):
    import tensorflow as tf

    folder = pathlib.Path(builder.data_dir_root, builder.name)
    was_there = os.path.lexists(folder)
    try:
        builder.download_and_prepare()
    # What a builder raises is its own affair.
    except Exception as error:
        if not was_there:
            _remove_empty(folder)
        # TFDS's own message has the instructions in it, on several lines.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(" Create it and ")[0]
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
            f"{reason.rstrip('.')}. Hint: without a network, copy the folder {builder.name!r} from a machine with one."
        ) from error


def _remove_empty(folder):
    """Removes what a failed preparation leaves, unless another configuration is or is being prepared there."""

    def is_content(path):
        return path.is_file() or path.is_symlink() or path.name.startswith("incomplete.")

    with contextlib.suppress(OSError):
        found = [one for one in folder.rglob("*") if is_content(one)]
        if all(one.parent.name == ".config" for one in found):
            shutil.rmtree(folder)


def _label_keys(builder):
    import tensorflow_datasets as tfds

    features = builder.info.features
    return [key for key, kind in features.items() if isinstance(kind, tfds.features.ClassLabel)]


def _find_features(builder):
    import tensorflow_datasets as tfds

    features = builder.info.features
    images = [key for key, kind in features.items() if isinstance(kind, tfds.features.Image)]
    labels = _label_keys(builder)
    supervised = builder.info.supervised_keys
    if supervised and supervised[0] in images and supervised[1] in labels:
        return supervised
    if len(images) != 1 or len(labels) != 1:
        raise InputError(
            "A tfds: data set must have one image and one class label an example. "
            f"Received: {builder.info.full_name} with images {images} and labels {labels}."
        )
    return images[0], labels[0]


def _read_labels(builder, split):
    """Reads every class label of a split: int64 [N] by feature."""
    import tensorflow_datasets as tfds

    keys = _label_keys(builder)
    decoders = tfds.decode.PartialDecoding({key: builder.info.features[key] for key in keys})
    rows = builder.as_dataset(split=split, decoders=decoders, shuffle_files=False)
    values = [[row[key] for key in keys] for row in rows.as_numpy_iterator()]
    return dict(zip(keys, np.array(values, np.int64).reshape(-1, len(keys)).T, strict=True))


def _list_split(builder, split, labels):
    names = [f"{builder.info.full_name}:{split}[{position}]" for position in range(len(labels))]
    addresses = np.array([(split, position) for position in range(len(labels))], object).reshape(-1, 2)
    # TFDS writes -1 for an image without a label.
    return Examples(addresses, labels.astype(np.int32), np.array(names, object)).take(np.flatnonzero(labels >= 0))


def _class_table(builder, label_key, labels_of_splits):
    """Returns the labels that all images of a class share, by class name and feature; empty where there are none."""
    features = builder.info.features
    values = {key: np.concatenate([labels[key] for labels in labels_of_splits]) for key in _label_keys(builder)}
    is_labelled = values[label_key] >= 0
    table = {}
    for key, column in values.items():
        pairs = np.unique(np.stack([values[label_key], column])[:, is_labelled], axis=1)
        is_shared = len(np.unique(pairs[0])) == pairs.shape[1]
        if key != label_key and is_shared and (pairs[1] >= 0).all():
            for label, value in pairs.T.tolist():
                class_name = features[label_key].names[label]
                table.setdefault(class_name, {label_key: class_name})[key] = features[key].names[value]
    return table


def _fetch_encoded(builder, image_key, examples):
    """Yields the encoded bytes at `(split, position)` addresses, in one pass over each split.

    What is found before its turn is held: nothing where the positions ascend.
    """
    import tensorflow_datasets as tfds

    # Of all features only the image is parsed, and not decoded.
    decoders = tfds.decode.PartialDecoding(
        {image_key: builder.info.features[image_key]}, decoders={image_key: tfds.decode.SkipDecoding()}
    )
    for split, addresses in itertools.groupby(examples.images, key=lambda address: address[0]):
        positions = [position for _, position in addresses]
        last_turn = {position: turn for turn, position in enumerate(positions)}
        turn, held = 0, {}
        rows = builder.as_dataset(split=split, decoders=decoders, shuffle_files=False)
        for position, row in enumerate(rows.as_numpy_iterator()):
            if position in last_turn:
                held[position] = row[image_key]
            while turn < len(positions) and positions[turn] in held:
                wanted = positions[turn]
                yield held.pop(wanted) if last_turn[wanted] == turn else held[wanted]
                turn += 1
