"""The check that an export computes what its network computes."""

import os

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.export.saved_model import load_export

# Both run the same operations, so that probabilities differ only by reordered sums, and by what half precision rounds.
_LARGEST_DIFFERENCES = {"float16": 1e-2, "bfloat16": 5e-2}
_LARGEST_DIFFERENCE = 1e-4


def check_export(network: keras.Model, folder: str | os.PathLike, images: np.ndarray, *, crop_bottom: int = 0) -> float:
    """Reloads an export and compares the probabilities of its signatures with the network's.

    The images [B, H, W, C] are whole numbers in 0..255, `crop_bottom` is what `export_network` received. Returns the
    largest difference of a probability, and raises a `RuntimeError` if it is larger than rounding explains.
    """
    signatures, class_names = load_export(folder)
    images = tf.cast(images, tf.float32)
    # Adds the rows that are cut off.
    whole = tf.pad(tf.cast(images, tf.uint8), [[0, 0], [0, crop_bottom], [0, 0], [0, 0]])
    encoded = tf.stack([tf.io.encode_png(image) for image in whole])
    expected = network(images, training=False)
    served = (signatures["pixels"](image=images), signatures["probabilities"](image_bytes=encoded))
    difference = max(float(np.abs(one[side] - expected[side]).max()) for one in served for side in class_names)
    types = {layer.compute_dtype for layer in network._flatten_layers()}
    if not difference <= max(_LARGEST_DIFFERENCES.get(one, _LARGEST_DIFFERENCE) for one in types):
        raise RuntimeError(f"The reloaded export differs from the network by {difference:.2g} in {str(folder)!r}.")
    return difference
