"""Writes and loads exports: a SavedModel that serves image files, with the names of its classes and a model card."""

import contextlib
import functools
import json
import os
import pathlib
import tempfile
from collections.abc import Sequence

import keras
import tensorflow as tf

from jtln_tf.config import InputError, MissingInputError, RunStoppedError
from jtln_tf.export.card import describe_export, write_card
from jtln_tf.export.checksums import write_checksums
from jtln_tf.export.formats import check_formats, write_formats
from jtln_tf.export.layout import (
    CLASSES_NAME,
    KIND,
    OWN_NAMES,
    SIGNATURES,
    UNFINISHED_KIND,
    UNFINISHED_NAMES,
    VERSION,
    ExportOptions,
    Samples,
)
from jtln_tf.export.signatures import Classifier, build_signatures, save_signatures
from jtln_tf.export.warmup import write_warmup
from jtln_tf.files import check_marked, first_line, mark_folder, remove_marked, remove_whole, write_json


def export_network(
    network: keras.Model,
    folder: str | os.PathLike,
    *,
    source_classes: Sequence[str],
    target_classes: Sequence[str],
    crop_bottom: int = 0,
    options: ExportOptions | None = None,
    samples: Samples | None = None,
    facts: dict | None = None,
) -> None:
    """Writes a folder that TensorFlow Serving serves, with a model card and checksums beside the SavedModel in `1/`.

    Signatures `serving_default`, `probabilities` and `features` take `image_bytes`, string [B]: JPEG, PNG, WebP or GIF
    files, or uncompressed BMP files of 8 or 24 bits a pixel, which are decoded and cropped as in training. They return
    `error`, string [B], empty for an image that was read, and

    - `serving_default`: `labels`, string [B, k], and `scores`, float32 [B, k], of the likeliest target classes;
    - `probabilities`: `source` [B, n] and `target` [B, m], the probabilities of the heads;
    - `features`: `features` [B, D].

    An image that was not read gets empty labels and zeros. `pixels` takes `image`, float32 [B, H, W, C] in 0..255.

    Args:
        network: What `build_network` returns.
        folder: New folder, or an earlier export, which is replaced once the new one is complete.
        source_classes: Class names of the source head.
        target_classes: Class names of the target head.
        crop_bottom: Rows of pixels at the bottom of each file that are cut off first, as for the target.
        options: Heads to keep, classes to return, other formats to write; None is `ExportOptions()`.
        samples: Images by which other formats are measured; needed if there are any.
        facts: Values that the model card adds: `data`, `training` and `accuracy`, each a dict.

    Raises:
        InputError: If the folder is no export, or holds other files; if names or a format's package are missing.
        RunStoppedError: If the disk does not take it.

    Examples:
        >>> import os, tempfile, jtln_tf as jt
        >>> network = jt.build_network("small_cnn", 3, 2, image_shape=(8, 8, 1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     jt.export_network(network, folder + "/out", source_classes=["a", "b", "c"], target_classes=["x", "y"])
        ...     sorted(os.listdir(folder + "/out"))
        ['1', 'README.md', 'SHA256SUMS', 'jtln_tf.json', 'model_card.json']
    """
    options = options or ExportOptions()
    names = _check_names(network, source_classes, target_classes, options)
    check_formats(options.also)
    extras = {"crop_bottom": crop_bottom, "options": options, "samples": samples, "facts": facts}
    _replace_whole(
        pathlib.Path(os.path.abspath(folder)), functools.partial(_write_content, network=network, names=names, **extras)
    )


def _replace_whole(folder, write):
    """Calls `write` with a new folder, and puts that in the place of an earlier export."""
    check_marked(folder, KIND, OWN_NAMES, "output")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    # A killed export may have left it.
    remove_marked(unfinished, UNFINISHED_KIND, UNFINISHED_NAMES, "output")
    try:
        with _new_folder(unfinished):
            write(unfinished / KIND, model_name=folder.name)
            remove_marked(folder, KIND, OWN_NAMES, "output")
            os.replace(unfinished / KIND, folder)
    except (tf.errors.OpError, OSError) as error:
        reason = first_line(error)
        raise RunStoppedError(f"An export must be writable. Received: {str(folder)!r} ({reason}).") from error


def _check_names(network, source_classes, target_classes, options):
    """Returns the class names of the heads that are kept, by side."""
    names = {"source": list(source_classes), "target": list(target_classes)}
    for side, classes in names.items():
        num_classes = network.output[side].shape[-1]
        if len(classes) != num_classes:
            raise InputError(
                f"`{side}_classes` must name the {num_classes} classes of the head. Received: {len(classes)} names."
            )
    return {side: names[side] for side in options.sides}


def _write_content(folder, *, model_name, network, names, crop_bottom, options, samples, facts):
    if "source" not in names:
        network = keras.Model(network.input, {side: network.output[side] for side in names}, name="network")
    classifier = Classifier(network, names)
    signatures = build_signatures(classifier, names, crop_bottom=crop_bottom, top_k=options.top_k)
    folder.mkdir()
    # An asset is copied from where it lies.
    write_json(folder / CLASSES_NAME, names)
    save_signatures(classifier, signatures, folder / VERSION, folder / CLASSES_NAME)
    (folder / CLASSES_NAME).unlink()
    write_warmup(folder / VERSION, model_name, network.input_shape[1])
    formats = write_formats(network, classifier, folder, options.also, samples) if options.also else []
    write_card(folder, describe_export(network, names, crop_bottom=crop_bottom, facts=facts, formats=formats))
    write_checksums(folder)
    mark_folder(folder, KIND)


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


def load_export(folder: str | os.PathLike) -> tuple[dict, dict[str, list[str]]]:
    """Loads what `export_network` wrote: `(signatures, class_names)`, functions by name and class names by head.

    The folder is that of the export, or of one version in it; of several versions, the largest is loaded.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise MissingInputError(f"`model` must name an existing folder. Received: {str(folder)!r}.")
    try:
        # A pipe would be waited for.
        version = _find_version(folder)
        classes_file = version / "assets" / CLASSES_NAME
        if not classes_file.is_file():
            raise FileNotFoundError(classes_file)
        class_names = json.loads(classes_file.read_text("utf-8"))
        class_names = {side: list(class_names[side]) for side in sorted({*class_names, "target"})}
        with tempfile.TemporaryDirectory() as plain:
            # TensorFlow takes characters like [ in the path of the variables for a pattern.
            os.symlink(version.absolute(), os.path.join(plain, KIND))
            model = tf.saved_model.load(os.path.join(plain, KIND))
        signatures = {name: model.signatures[name] for name in SIGNATURES}
        counts = {side: signatures["probabilities"].structured_outputs[side].shape[-1] for side in class_names}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, tf.errors.OpError) as error:
        rule = "`model` must be an exported network or the folder of a run"
        raise InputError(f"{rule}. Received: {str(folder)!r}.") from error
    named = {side: len(names) for side, names in class_names.items()}
    if named != counts:
        rule = f"`{CLASSES_NAME}` of an export must name the classes of its network, {counts}"
        raise InputError(f"{rule}. Received: {named} in {str(folder)!r}.")
    # The functions live only as long as the model that they came from.
    return signatures | {"model": model}, class_names


def _find_version(folder):
    """Returns the folder of a SavedModel: the folder itself, or the one in it whose whole number is the largest."""
    if (folder / "saved_model.pb").is_file():
        return folder
    # As TensorFlow Serving chooses. Other digits of Unicode are none for it.
    versions = [one for one in folder.iterdir() if one.name.isdecimal() and one.name.isascii() and one.is_dir()]
    return max(versions, key=lambda one: int(one.name), default=folder / VERSION)
