"""Weights of a named backbone from a `.weights.h5` file."""

import re
import warnings

import h5py
import keras

from jtln_tf.config import InputError


def load_backbone_weights(backbone: keras.Model, path: str) -> None:
    """Sets the weights of a backbone from an existing file that `backbone.save_weights` wrote.

    Raises:
        InputError: If it is not a weights file, or belongs to another model.
    """
    try:
        num_saved = _count_arrays(path)
    except OSError as error:
        raise InputError(f"`weights` must be a Keras weights file (.weights.h5). Received: {path} (no HDF5)") from error
    # keras ignores surplus arrays, so a deeper model's file could load without complaint.
    num_weights = len(backbone.weights)
    if num_saved != num_weights:
        raise InputError(
            f"`weights` must fit the backbone. Received: {path} ({num_saved} arrays, the backbone has {num_weights})"
        )
    try:
        with warnings.catch_warnings():
            # If a layer does not fit, keras warns of each place that it looked in, and then raises.
            warnings.filterwarnings("ignore", message="Skipping nested container")
            backbone.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        raise InputError(
            f"`weights` must fit the backbone. Received: {path} ({_reason(error)}){_hint(backbone)}"
        ) from error


def _count_arrays(path):
    count = 0

    def visit(name, item):
        nonlocal count
        count += isinstance(item, h5py.Dataset)

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return count


def _reason(error):
    """Returns what keras says about the first mismatch, without the values and layers that it lists after it."""
    text = " ".join(str(error).split())
    return re.split(r" ?(?:Target variable:|List of objects)", text)[0] or type(error).__name__


def _hint(backbone):
    """Explains that the weights depend on the image size if a dense layer sees each pixel of the last map."""
    if not any(isinstance(layer, keras.layers.Flatten) for layer in backbone.layers):
        return ""
    height, width = backbone.input.shape[1:3]
    return f". Hint: this backbone has other weights at another image size than {height} x {width} pixels."
