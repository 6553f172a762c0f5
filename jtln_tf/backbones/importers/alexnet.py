"""Turns the published weights of Caffe's AlexNet into a weights file."""

import os
import pathlib
import tempfile

import numpy as np

from jtln_tf.backbones.backbone import build_backbone
from jtln_tf.backbones.importers.caffe_dump import read_caffe_dump
from jtln_tf.config import InputError, NetworkConfig

# The side of the images that it was trained on; at any other `fc6` has another shape.
_SIDE = 227
_LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
# The classifier of ImageNet, whose place the two heads take.
_CLASSIFIER = "fc8"


def import_alexnet_weights(path: str | os.PathLike, output: str | os.PathLike) -> None:
    """Turns a dump of Caffe's AlexNet, see `read_caffe_dump`, into a weights file of `alexnet` at 227 x 227 pixels.

    Convolutions have the shape [height, width, inputs / groups, outputs], those of `conv1` in the order blue, green,
    red; `fc6` takes the last map flattened in the order height, width, channels. `fc8` is left out. The `.weights.h5`
    file `output` is written whole or not at all. A dump that does not fit AlexNet is an `InputError`.
    """
    layers = read_caffe_dump(path)
    differences = [f"no {name}" for name in _LAYERS if name not in layers]
    differences += [f"also {name[:80]!r}" for name in layers if name not in (*_LAYERS, _CLASSIFIER)]
    if differences:
        raise InputError(
            f"`input` must have the layers {', '.join(_LAYERS)}, and may have {_CLASSIFIER}. "
            f"Received: {str(path)!r} with {', '.join(differences[:8])}."
        )
    backbone = build_backbone(NetworkConfig(backbone="alexnet"), (_SIDE, _SIDE, 3))
    for name in _LAYERS:
        variables = backbone.get_layer(name).weights
        for part, array, variable in zip(("weights", "biases"), layers[name], variables, strict=True):
            if array.shape != variable.shape:
                raise InputError(
                    f"`input` must have {part} of shape {list(variable.shape)} for {name}. "
                    f"Received: {str(path)!r} with {list(array.shape)}."
                )
            if not np.isfinite(array).all():
                raise InputError(f"`input` must have finite {part} for {name}. Received: {str(path)!r} with others.")
            variable.assign(array.astype(np.float32))
    with tempfile.TemporaryDirectory(prefix=".unfinished", dir=pathlib.Path(output).parent) as folder:
        unfinished = pathlib.Path(folder, pathlib.Path(output).name)
        backbone.save_weights(unfinished)
        unfinished.replace(output)
