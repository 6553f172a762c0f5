"""Writes and loads exports: a SavedModel that serves raw images, and the names of the classes."""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Sequence

import keras
import tensorflow as tf

from jtln_tf.config import SIDES, InputError, MissingInputError, RunStoppedError
from jtln_tf.data import decode_image
from jtln_tf.export.layout import CLASSES_FILE, KIND, OWN_NAMES, UNFINISHED_KIND, UNFINISHED_NAMES
from jtln_tf.files import check_marked, first_line, mark_folder, remove_marked, remove_whole, write_json

_SIGNATURES = ("serve_bytes", "serve_images")


def export_network(
    network: keras.Model,
    folder: str | os.PathLike,
    *,
    source_classes: Sequence[str],
    target_classes: Sequence[str],
    crop_bottom: int = 0,
) -> None:
    """Writes a SavedModel with two signatures, and the class names beside it.

    `serve_images`: `image`, float32 [B, H, W, C] in 0..255. `serve_bytes` (also `serving_default`): `encoded`, string
    [B], the bytes of JPEG, PNG, WebP or GIF files, or of uncompressed BMP files of 8 or 24 bits a pixel, decoded and
    cropped as in training. Both return `source` [B, n] and `target` [B, m], the probabilities of the two heads.

    Args:
        network: What `build_network` returns.
        folder: New folder, or an earlier export, which is replaced once the new one is complete.
        source_classes: Class names of the source head.
        target_classes: Class names of the target head.
        crop_bottom: Rows of pixels at the bottom of each file that `serve_bytes` cuts off first, as for the target.

    Raises:
        InputError: If the folder exists and is not an export, or holds other files too; or if the names do not fit the
            heads.
        RunStoppedError: If the disk does not take it.

    Example:
        >>> import os, tempfile, jtln_tf as jt
        >>> network = jt.build_network("small_cnn", 3, 2, image_shape=(8, 8, 1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     jt.export_network(network, folder + "/out", source_classes=["a", "b", "c"], target_classes=["x", "y"])
        ...     sorted(os.listdir(folder + "/out"))
        ['assets', 'classes.json', 'fingerprint.pb', 'jtln_tf.json', 'saved_model.pb', 'variables']
    """
    names = {"source": list(source_classes), "target": list(target_classes)}
    for side, classes in names.items():
        num_classes = network.output[side].shape[-1]
        if len(classes) != num_classes:
            raise InputError(
                f"`{side}_classes` must name the {num_classes} classes of the head. Received: {len(classes)} names."
            )
    folder = pathlib.Path(os.path.abspath(folder))
    check_marked(folder, KIND, OWN_NAMES, "output")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    # A killed export may have left it.
    remove_marked(unfinished, UNFINISHED_KIND, UNFINISHED_NAMES, "output")
    try:
        with _new_folder(unfinished):
            _build_archive(network, crop_bottom).write_out(str(unfinished / KIND), verbose=False)
            write_json(unfinished / KIND / CLASSES_FILE, names)
            mark_folder(unfinished / KIND, KIND)
            remove_marked(folder, KIND, OWN_NAMES, "output")
            os.replace(unfinished / KIND, folder)
    except (tf.errors.OpError, OSError) as error:
        reason = first_line(error)
        raise RunStoppedError(f"An export must be writable. Received: {str(folder)!r} ({reason}).") from error


@contextlib.contextmanager
def _new_folder(folder):
    """Makes and marks a folder, and removes it at the end; one that is already there raises an error and stays."""
    folder.mkdir(parents=True)
    try:
        mark_folder(folder, UNFINISHED_KIND)
        yield
    finally:
        with contextlib.suppress(OSError):
            remove_whole(folder)


def _build_archive(network, crop_bottom):
    _, height, _, channels = network.input_shape

    def serve_images(image):
        # A signature of a loaded export takes a tensor of any shape, and a convolution would abort the process.
        return network(tf.ensure_shape(image, [None, height, height, channels]), training=False)

    def serve_bytes(encoded):
        decoded = tf.map_fn(
            lambda one: decode_image(one, height, channels, crop_bottom, portable=True),
            tf.ensure_shape(encoded, [None]),
            fn_output_signature=tf.TensorSpec((height, height, channels), tf.uint8),
        )
        return network(tf.cast(decoded, tf.float32), training=False)

    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint("serve_bytes", serve_bytes, [tf.TensorSpec([None], tf.string, name="encoded")])
    image = tf.TensorSpec([None, height, height, channels], tf.float32, name="image")
    archive.add_endpoint("serve_images", serve_images, [image])
    return archive


def load_export(folder: str | os.PathLike) -> tuple[dict, dict[str, list[str]]]:
    """Loads what `export_network` wrote: `(signatures, class_names)`, functions by name and class names by head."""
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise MissingInputError(f"`model` must name an existing folder. Received: {str(folder)!r}.")
    try:
        # A pipe would be waited for.
        if not (folder / CLASSES_FILE).is_file():
            raise FileNotFoundError(CLASSES_FILE)
        class_names = json.loads((folder / CLASSES_FILE).read_text("utf-8"))
        class_names = {side: list(class_names[side]) for side in SIDES}
        with tempfile.TemporaryDirectory() as plain:
            # TensorFlow takes characters like [ in the path of the variables for a pattern.
            os.symlink(folder.absolute(), os.path.join(plain, KIND))
            model = tf.saved_model.load(os.path.join(plain, KIND))
        signatures = {name: model.signatures[name] for name in _SIGNATURES}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, tf.errors.OpError) as error:
        raise InputError(f"`model` must be an exported network. Received: {str(folder)!r}.") from error
    # The functions live only as long as the model that they came from.
    return signatures | {"model": model}, class_names
