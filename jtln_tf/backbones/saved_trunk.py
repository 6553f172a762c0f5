"""A trunk from a `.keras` file: any saved model with one image input, rebuilt at the wanted image size."""

import json
import os
import zipfile

import keras

from jtln_tf.backbones.cloning import clone_model
from jtln_tf.backbones.kerashub import is_kerashub
from jtln_tf.backbones.pixels import expand_gray, scale_pixels
from jtln_tf.config import InputError
from jtln_tf.files import first_line

# A file that unpacks to more is not read.
_MAX_RATIO, _HARMLESS_BYTES = 200, 16 * 2**20
# Of the classes that are refused.
_SHOWN_CLASSES = 3


def is_saved_trunk(name: str) -> bool:
    """Returns whether the name of a backbone is the path of a saved model."""
    return name.endswith(".keras") and not is_kerashub(name)


def saved_features(image: keras.KerasTensor, path: str, *, pixel_range: str) -> keras.KerasTensor:
    """Maps images [B, H, W, C] in 0..255, gray or RGB, to the features [B, D] of a saved model.

    The layers are cloned onto `image`, so the model may have been saved for another image size. Maps are averaged over
    their pixels. A final softmax classifier is left out. A model that holds code (a `Lambda` layer), or cannot map
    these images to features, is an `InputError`.
    """
    model = _load(path)
    channels = model.input.shape[-1]
    if image.shape[-1] not in (1, channels):
        raise InputError(
            f"`image_shape` must have the {channels} channels of the `backbone` {path}. "
            f"Received: {list(image.shape[1:])}."
        )
    model = _without_classifier(model, path)
    pixels = scale_pixels(expand_gray(image, channels), pixel_range)
    try:
        features = clone_model(model, image, pixels).output
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"`backbone` must be a model that can be rebuilt for images of {list(image.shape[1:])}. "
            f"Received: {path}, saved for {list(model.input.shape[1:])} ({first_line(error)})"
        ) from error
    if len(features.shape) == 4:
        return keras.layers.GlobalAveragePooling2D(name="pooled_features")(features)
    if len(features.shape) != 2:
        raise InputError(
            "`backbone` must end in features [features] or a map [height, width, features]. "
            f"Received: {path} ({list(features.shape[1:])})"
        )
    return features


def _load(path):
    if not zipfile.is_zipfile(path):
        raise InputError(f"`backbone` must be a saved Keras model (.keras). Received: {path} (not a zip archive)")
    classes = []
    try:
        classes = _foreign_classes(path)
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # A foreign file can fail anywhere in the reader, with any exception.
        names = ", ".join(map(repr, classes[:_SHOWN_CLASSES]))
        reason = f"it holds code of {names}, which is not run" if classes else first_line(error)
        raise InputError(f"`backbone` must be a saved Keras model (.keras). Received: {path} ({reason})") from error
    # A subclassed model has neither.
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    shapes = [list(tensor.shape[1:]) for tensor in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 3 or len(outputs) != 1:
        raise InputError(
            "`backbone` must be a functional or sequential model with one image input [height, width, channels] and "
            f"one output. Received: {path} ({type(model).__name__}, inputs {shapes}, {len(outputs)} outputs)"
        )
    # Whatever the file holds, the rest of this module sees one class of model, with a single tensor as its input.
    return keras.Model(inputs[0], outputs[0])


def _foreign_classes(path):
    """Returns the names of the classes in a `.keras` file that hold code of their own; `ValueError` if it is a bomb."""
    with zipfile.ZipFile(path) as archive:
        num_bytes, packed_bytes = sum(one.file_size for one in archive.infolist()), os.path.getsize(path)
        if num_bytes > max(_HARMLESS_BYTES, _MAX_RATIO * packed_bytes):
            raise ValueError(f"it unpacks to {num_bytes:,} bytes, more than {_MAX_RATIO} times its size")
        config = json.loads(archive.read("config.json"))
    found, waiting = set(), [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict) and "class_name" in one and "config" in one:
            is_foreign = not str(one.get("module") or "").startswith("keras")
            if (is_foreign or one["class_name"] == "Lambda") and not str(one["class_name"]).startswith("__"):
                found.add(str(one["class_name"]))
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    return sorted(found)


def _without_classifier(model, path):
    """Returns the part of a model before its final softmax classifier, or the model if it ends in features."""
    last = model.layers[-1]
    if not _is_softmax(last):
        return model
    # The softmax may be a layer of its own, behind the classifier's Dense layer.
    classifier = last if isinstance(last, keras.layers.Dense) else model.layers[-2]
    if not isinstance(classifier, keras.layers.Dense):
        raise InputError(
            f"`backbone` must end in features, or in a softmax over a Dense layer. Received: {path} "
            f"(a softmax over {type(classifier).__name__})"
        )
    return keras.Model(model.input, classifier.input)


def _is_softmax(layer):
    if isinstance(layer, keras.layers.Dense | keras.layers.Activation):
        return layer.activation is keras.activations.softmax
    return isinstance(layer, keras.layers.Softmax)
