"""Turns the published weights of Caffe's AlexNet into a weights file."""

import os
import pathlib

import numpy as np

from jtln_tf.backbones.backbone import build_backbone
from jtln_tf.backbones.importers.caffe_dump import read_caffe_dump
from jtln_tf.config import InputError, NetworkConfig

# The side of the images that it was trained on; at any other `fc6` has another shape.
_SIDE = 227
_SHAPES = {
    "conv1": (11, 11, 3, 96),
    "conv2": (5, 5, 48, 256),
    "conv3": (3, 3, 256, 384),
    "conv4": (3, 3, 192, 384),
    "conv5": (3, 3, 192, 256),
    "fc6": (6 * 6 * 256, 4096),
    "fc7": (4096, 4096),
}
# The classifier of ImageNet, whose place the two heads take.
_CLASSIFIER = "fc8"


def import_alexnet_weights(path: str | os.PathLike, output: str | os.PathLike) -> None:
    """Writes the weights of Caffe's AlexNet as a `weights` file of the backbone `alexnet` at 227 x 227 pixels.

    Convolutions have the shape [height, width, inputs / groups, outputs], those of `conv1` in the order blue, green,
    red; `fc6` takes the last map flattened in the order height, width, channels.

    Args:
        path: Dump for `read_caffe_dump`, with `conv1` to `conv5`, `fc6`, `fc7`; `fc8` is left out.
        output: Path of the `.weights.h5` file; it is written beside first, so that it is whole or not there.

    Raises:
        MissingInputError: If there is no such dump.
        InputError: If it is not a dump of AlexNet.
    """
    layers = read_caffe_dump(path)
    _check_names(path, layers)
    for name, shape in _SHAPES.items():
        _check_arrays(path, name, layers[name], shape)
    backbone = build_backbone(NetworkConfig(backbone="alexnet"), (_SIDE, _SIDE, 3))
    for name in _SHAPES:
        backbone.get_layer(name).set_weights([array.astype(np.float32) for array in layers[name]])
    output = pathlib.Path(output)
    unfinished = output.with_name(f"unfinished.{os.getpid()}.{output.name}")
    try:
        backbone.save_weights(unfinished)
        os.replace(unfinished, output)
    finally:
        unfinished.unlink(missing_ok=True)


def _check_names(path, layers):
    differences = [f"no {name}" for name in _SHAPES if name not in layers]
    differences += [f"also {name[:80]!r}" for name in layers if name not in (*_SHAPES, _CLASSIFIER)]
    if differences:
        raise InputError(
            f"`input` must have the layers {', '.join(_SHAPES)}, and may have {_CLASSIFIER}. "
            f"Received: {str(path)!r} with {', '.join(differences[:8])}."
        )


def _check_arrays(path, name, arrays, shape):
    for part, array, expected in zip(("weights", "biases"), arrays, (shape, shape[-1:]), strict=True):
        if array.shape != expected:
            raise InputError(
                f"`input` must have {part} of shape {list(expected)} for {name}. "
                f"Received: {str(path)!r} with {list(array.shape)}."
            )
        if not np.isfinite(array).all():
            raise InputError(f"`input` must have finite {part} for {name}. Received: {str(path)!r} with others.")
