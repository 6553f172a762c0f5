"""Image classification data sets of TensorFlow Datasets."""

import dataclasses
import functools

import numpy as np

from jtln_tf.config import InputError
from jtln_tf.domains.examples import Examples
from jtln_tf.domains.listing import Listing, select_classes


def list_tfds(spec, data_root="", cache_dir=""):
    """Lists a `tfds:NAME[/CONFIG][:SPLIT]` domain; the data set is prepared (downloaded) where it is not yet.

    Labels are read first, in a pass that decodes nothing; the bytes of images that are not used are never held. A
    named SPLIT is the only one used and is divided like a folder.

    Args:
        spec: `DomainSpec`.
        data_root: Folder of the prepared data sets; empty is TFDS's own default.
        cache_dir: Unused.

    Raises:
        InputError: If there is no such data set or split, or it has no image with one class label.
    """
    del cache_dir
    import tensorflow_datasets as tfds

    name, _, split = spec.name.partition(":")
    try:
        builder = tfds.builder(name, data_dir=data_root or None)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(f"`tfds:` must name a data set of TensorFlow Datasets. Received: {name!r}.") from error
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"`tfds:` must name a data set and its CONFIG. Received: {name!r} ({reason}).") from error
    builder.download_and_prepare()
    image_key, label_key = _find_features(builder)
    if split and split not in builder.info.splits:
        raise InputError(f"A split must be one of {', '.join(builder.info.splits)}. Received: {split!r}.")
    wanted = [split] if split else [one for one in ("train", "validation", "test") if one in builder.info.splits]
    if not split and "train" not in wanted:
        raise InputError(f"A data set without a train split needs tfds:NAME:SPLIT. Received: {spec.text!r}.")
    class_names = tuple(builder.info.features[label_key].names)
    splits = {("train" if one == split else one): _list_split(builder, one, label_key) for one in wanted}
    # Some data sets publish their test images without labels: then test images are held out like a folder's.
    splits = {one: examples for one, examples in splits.items() if one == "train" or len(examples)}
    fetch = functools.partial(_fetch_encoded, builder, image_key)
    return select_classes(Listing(class_names, splits, fetch=fetch), spec)


def _find_features(builder):
    import tensorflow_datasets as tfds

    features = builder.info.features
    images = [key for key, kind in features.items() if isinstance(kind, tfds.features.Image)]
    labels = [key for key, kind in features.items() if isinstance(kind, tfds.features.ClassLabel)]
    supervised = builder.info.supervised_keys
    if supervised and supervised[0] in images and supervised[1] in labels:
        return supervised
    if len(images) != 1 or len(labels) != 1:
        raise InputError(
            "A tfds: data set must have one image and one class label an example. "
            f"Received: {builder.info.full_name} with images {images} and labels {labels}."
        )
    return images[0], labels[0]


def _list_split(builder, split, label_key):
    import tensorflow_datasets as tfds

    decoders = tfds.decode.PartialDecoding({label_key: builder.info.features[label_key]})
    rows = builder.as_dataset(split=split, decoders=decoders, shuffle_files=False)
    labels = np.array([row[label_key] for row in rows.as_numpy_iterator()], np.int32)
    names = [f"{builder.info.full_name}:{split}[{position}]" for position in range(len(labels))]
    addresses = np.array([(split, position) for position in range(len(labels))], object).reshape(-1, 2)
    # TFDS writes -1 for an image without a label.
    return Examples(addresses, labels, np.array(names, object)).take(np.flatnonzero(labels >= 0))


def _fetch_encoded(builder, image_key, examples):
    """Replaces `(split, position)` addresses by the encoded bytes found there, in one pass over each split."""
    import tensorflow_datasets as tfds

    encoded = {}
    for split in sorted(set(examples.images[:, 0])):
        wanted = {position for one, position in examples.images if one == split}
        rows = builder.as_dataset(split=split, decoders={image_key: tfds.decode.SkipDecoding()}, shuffle_files=False)
        for position, row in enumerate(rows.as_numpy_iterator()):
            if position in wanted:
                encoded[split, position] = row[image_key]
    images = np.array([encoded[split, position] for split, position in examples.images], object)
    return dataclasses.replace(examples, images=images)
