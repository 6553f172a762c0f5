"""Weights of a named backbone from a `.weights.h5` file."""

import re
import warnings

import h5py
import keras

from jtln_tf.config import InputError

# More values than this, in those of the backbone, are not read.
_MOST_SURPLUS = 10


def load_backbone_weights(backbone: keras.Model, path: str) -> None:
    """Sets the weights from an existing file of `backbone.save_weights`; an `InputError` if it is another file."""
    sizes = []
    try:
        with h5py.File(path) as file:
            # It goes on as long as the function returns None.
            file.visititems(lambda _, item: sizes.append(item.size) if isinstance(item, h5py.Dataset) else None)
    # A damaged file can fail anywhere in the reader, with any exception.
    except Exception as error:
        raise InputError(f"`weights` must be a Keras weights file (.weights.h5). Received: {path} (no HDF5)") from error
    # keras ignores surplus arrays, so a deeper model's file could load without complaint.
    num_weights, num_values = len(backbone.weights), backbone.count_params()
    if len(sizes) != num_weights:
        raise InputError(
            f"`weights` must fit the backbone. Received: {path} ({len(sizes)} arrays, the backbone has {num_weights})"
        )
    found = sum(size or 0 for size in sizes)
    # A few bytes can announce any number of values. keras explains a smaller difference better.
    if found > _MOST_SURPLUS * num_values:
        raise InputError(
            f"`weights` must fit the backbone. Received: {path} ({found:,} values, the backbone has {num_values:,})"
        )
    try:
        with warnings.catch_warnings():
            # If a layer does not fit, keras warns of each place that it looked in, and then raises.
            warnings.filterwarnings("ignore", message="Skipping nested container")
            backbone.load_weights(path)
    except Exception as error:
        # Behind the first mismatch, keras lists values and layers.
        reason = re.split(r" ?(?:Target variable:|List of objects)", " ".join(str(error).split()))[0]
        raise InputError(f"`weights` must fit the backbone. Received: {path} ({reason}){_hint(backbone)}") from error


def _hint(backbone):
    """Explains that the weights depend on the image size if a dense layer sees each pixel of the last map."""
    if not any(isinstance(layer, keras.layers.Flatten) for layer in backbone.layers):
        return ""
    height, width = backbone.input.shape[1:3]
    return f". Hint: this backbone has other weights at another image size than {height} x {width} pixels."
