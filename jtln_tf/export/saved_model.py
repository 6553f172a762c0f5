"""A trained network to a SavedModel that serves raw images. Floor 4."""

import json
import os
import pathlib
import shutil

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.config import InputError, MissingInputError, RunStoppedError
from jtln_tf.data import decode_image

_CLASSES_FILE = "classes.json"
# Probabilities of the reloaded model: the same operations, so nothing but reordered sums may differ.
_LARGEST_DIFFERENCE = 1e-4


def export_network(network, folder, *, source_classes, target_classes, crop_bottom=0):
    """Writes a SavedModel with two signatures, and the class names beside it.

    `serve_images`: `image`, float32 [B, H, W, C] in 0..255. `serve_bytes` (also `serving_default`): `encoded`, string
    [B], the bytes of JPEG, PNG, WebP, GIF or BMP files, decoded and cropped as in training. Both return `source` [B, n]
    and `target` [B, m], the probabilities of the two heads.

    Args:
        network: What `build_network` returns.
        folder: Folder to write; it is written beside first, so that it is whole or not there.
        source_classes: Class names of the source head.
        target_classes: Class names of the target head.
        crop_bottom: Rows of each file's pixels that `serve_bytes` cuts off first, at the bottom: those of the target.

    Raises:
        InputError: If the folder exists and is no export, or the names do not fit the heads.
        RunStoppedError: If the disk does not take it.
    """
    folder = pathlib.Path(folder)
    names = {"source": list(source_classes), "target": list(target_classes)}
    for head, classes in names.items():
        if len(classes) != network.output[head].shape[-1]:
            raise InputError(
                f"`{head}_classes` must name the {network.output[head].shape[-1]} classes of the head. "
                f"Received: {len(classes)} names."
            )
    if folder.exists() and not (folder / _CLASSES_FILE).is_file():
        raise InputError(f"`output` must be a new folder or an earlier export. Received: {str(folder)!r}.")
    _, height, _, channels = network.input_shape

    def serve_images(image):
        return network(image, training=False)

    def serve_bytes(encoded):
        decoded = tf.map_fn(
            lambda one: decode_image(one, height, channels, crop_bottom),
            encoded,
            fn_output_signature=tf.TensorSpec((height, height, channels), tf.uint8),
        )
        return network(tf.cast(decoded, tf.float32), training=False)

    archive = keras.export.ExportArchive()
    archive.track(network)
    encoded = tf.TensorSpec([None], tf.string, name="encoded")
    archive.add_endpoint("serve_bytes", serve_bytes, [encoded])
    archive.add_endpoint(
        "serve_images", serve_images, [tf.TensorSpec([None, height, height, channels], tf.float32, name="image")]
    )
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        archive.write_out(str(unfinished), verbose=False)
        (unfinished / _CLASSES_FILE).write_text(json.dumps(names, indent=2, ensure_ascii=False) + "\n", "utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unfinished, folder)
    except (tf.errors.OpError, OSError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        reason = str(error).splitlines()[0]
        raise RunStoppedError(f"An export must be writable. Received: {str(folder)!r} ({reason}).") from error


def load_export(folder):
    """Loads what `export_network` wrote.

    Returns:
        `(signatures, class_names)`: functions by name, and lists of class names by head.

    Raises:
        MissingInputError: If there is no such folder.
        InputError: If the folder is no export.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise MissingInputError(f"`model` must name an existing folder. Received: {str(folder)!r}.")
    try:
        class_names = json.loads((folder / _CLASSES_FILE).read_text("utf-8"))
        model = tf.saved_model.load(str(folder))
        signatures = {name: model.signatures[name] for name in ("serve_bytes", "serve_images")}
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise InputError(f"`model` must be an exported network. Received: {str(folder)!r}.") from error
    # The functions live as long as the model that they came from.
    signatures["model"] = model
    return signatures, class_names


def check_export(network, folder, images, *, crop_bottom=0):
    """Reloads an export and compares the probabilities of both its signatures with the network's.

    Args:
        network: The network that was exported.
        folder: The export.
        images: Whole-numbered images [B, H, W, C] in 0..255 to compare on.
        crop_bottom: What `export_network` was given.

    Returns:
        Largest absolute difference of a probability.

    Raises:
        RuntimeError: If the difference is larger than rounding explains.
    """
    signatures, _ = load_export(folder)
    images = tf.cast(images, tf.float32)
    # Rows for it to cut off.
    whole = tf.pad(tf.cast(images, tf.uint8), [[0, 0], [0, crop_bottom], [0, 0], [0, 0]])
    encoded = tf.stack([tf.io.encode_png(image) for image in whole])
    expected = network(images, training=False)
    served = (signatures["serve_images"](image=images), signatures["serve_bytes"](encoded=encoded))
    difference = max(float(np.abs(one[head] - expected[head]).max()) for one in served for head in ("source", "target"))
    if not difference <= _LARGEST_DIFFERENCE:
        raise RuntimeError(f"The reloaded export differs from the network by {difference:.2g} in {str(folder)!r}.")
    return difference
