"""The trunks of `keras.applications`, each with the pixel scaling that its weights were trained on."""

import functools
import os
import re
import socket
import warnings
from collections.abc import Callable

import keras

from jtln_tf.backbones.named import NamedBackbone
from jtln_tf.config import InputError
from jtln_tf.config.network_access import can_reach
from jtln_tf.config.pretrained import LITE0_INSTALLATION, keras_weights_folder
from jtln_tf.files import first_line

# keras divides by the root of this before EfficientNet's first convolution, but only if it loads the ImageNet weights.
_EFFICIENTNET_EXTRA_SCALE = (0.229, 0.224, 0.225)
_SERVER, _MOST_SECONDS = "https://storage.googleapis.com/tensorflow/keras-applications/", 15


def application_features(pixels: keras.KerasTensor, imagenet: bool, *, constructor: Callable) -> keras.KerasTensor:
    """Maps scaled RGB images [B, H, W, 3] to pooled features [B, D]; an `InputError` if a download fails."""
    if not imagenet:
        return _build_trunk(constructor, pixels, None).output
    name = constructor.__name__
    try:
        trunk = _build_trunk(constructor, pixels, "imagenet")
    except Exception as error:  # keras raises a bare Exception if a download fails.
        raise InputError(
            f"`weights`=imagenet must be downloaded by keras for {name}, which failed. Received: {first_line(error)}. "
            f"{_hint()}"
        ) from error
    return (_without_extra_scaling(constructor, pixels, trunk) if name.startswith("EfficientNetB") else trunk).output


def check_download(name: str) -> None:
    """Raises `InputError` if keras has no file of a model's ImageNet weights, and their server is out of reach."""
    folder = keras_weights_folder()
    # Which file it is depends on the image size too: `mobilenet_v2_weights_..._96_no_top.h5` of MobileNetV2.
    files = os.listdir(folder) if folder.is_dir() else ()
    is_there = any(name.lower() in re.sub(r"[^a-z0-9]", "", one.lower()) for one in files)
    if not is_there and not can_reach(_SERVER):
        raise InputError(
            f"`weights`=imagenet must be downloaded by keras for {name}, from {_SERVER}, which cannot be reached. "
            f"Received: no file of it in {str(folder)!r}. {_hint()}"
        )


def _hint():
    return (
        f"Hint: without a network, copy the file (.h5) from {str(keras_weights_folder())!r} of a machine with one to "
        f"the same folder here; or {LITE0_INSTALLATION} and --backbone=efficientnet_lite0; or --backbone=PATH.keras."
    )


def _build_trunk(constructor, pixels, weights):
    old_limit = socket.getdefaulttimeout()
    try:
        # keras downloads without a limit; it holds for each answer, not for the whole file.
        socket.setdefaulttimeout(_MOST_SECONDS)
        with warnings.catch_warnings():
            # MobileNet has weights for a few sizes, and warns that it takes those of 224 pixels for all others.
            warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
            return constructor(include_top=False, weights=weights, input_tensor=pixels, pooling="avg")
    finally:
        socket.setdefaulttimeout(old_limit)


def _without_extra_scaling(constructor, pixels, pretrained):
    """Rebuilds an ImageNet EfficientNet on the graph that it has without those weights.

    keras adds a scaling layer to this family only with `weights="imagenet"`. A weights file saved from one graph would
    load without complaint into the other, which would see its pixels at another scale. So the scale goes into the
    weights: `(x - m) / sqrt(v) / sqrt(s) = (x - m) / sqrt(v s)`.
    """
    trunk = _build_trunk(constructor, pixels, None)
    trunk.set_weights(pretrained.get_weights())
    normalization = next(layer for layer in trunk.layers if isinstance(layer, keras.layers.Normalization))
    variance = normalization.adapt_variance
    variance.assign(variance * keras.ops.convert_to_tensor(_EFFICIENTNET_EXTRA_SCALE))
    normalization.finalize_state()
    return trunk


# The scaling of a model follows from its name; `none`: the model holds its own.
_NAMES_BY_SCALING = {
    "none": r"ConvNeXt(Tiny|Small|Base|Large|XLarge)|EfficientNet(B|V2)\w+|MobileNetV3(Small|Large)",
    "caffe": r"ResNet\d+|VGG\d+",
    "torch": r"DenseNet\d+",
    "tf": r"InceptionResNetV2|InceptionV3|Xception|MobileNet(V2)?|NASNet(Mobile|Large)|ResNet\d+V2",
}
# Five halvings leave a map from 32 pixels on. Stems that convolve without padding need more.
_LEAST_SIDES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
APPLICATIONS = {
    name: NamedBackbone(
        functools.partial(application_features, constructor=constructor),
        scaling=scaling,
        least_side=_LEAST_SIDES.get(name, 32),
        has_imagenet_weights=True,
        check_imagenet_weights=functools.partial(check_download, name),
    )
    for name, constructor in vars(keras.applications).items()
    for scaling, names in _NAMES_BY_SCALING.items()
    if re.fullmatch(names, name)
}
