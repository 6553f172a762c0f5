"""The trunks of `keras.applications`, each with the pixel scaling that its weights were trained on."""

import functools
import warnings
from collections.abc import Callable

import keras
from keras import applications

from jtln_tf.backbones.named import NamedBackbone
from jtln_tf.config import InputError
from jtln_tf.files import first_line

# keras divides by the root of this before EfficientNet's first convolution, but only if it loads the ImageNet weights.
_EFFICIENTNET_EXTRA_SCALE = (0.229, 0.224, 0.225)


def application_features(pixels: keras.KerasTensor, imagenet: bool, *, constructor: Callable) -> keras.KerasTensor:
    """Maps scaled RGB images [B, H, W, 3] to the pooled features [B, D] of a `keras.applications` trunk.

    Raises:
        InputError: If the ImageNet weights are wanted, and cannot be downloaded.
    """
    if not imagenet:
        return _build_trunk(constructor, pixels, None).output
    name = constructor.__name__
    try:
        trunk = _build_trunk(constructor, pixels, "imagenet")
    except Exception as error:  # keras raises a bare Exception if a download fails.
        raise InputError(
            f"`weights`=imagenet must be downloaded by keras for {name}, which failed. Received: {first_line(error)}."
        ) from error
    if name.startswith("EfficientNetB"):
        return _without_extra_scaling(constructor, pixels, trunk).output
    return trunk.output


def _build_trunk(constructor, pixels, weights):
    with warnings.catch_warnings():
        # MobileNet has weights for a few sizes, and warns that it takes those of 224 pixels for all others.
        warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
        return constructor(include_top=False, weights=weights, input_tensor=pixels, pooling="avg")


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


# `none`: the model holds its own scaling.
_BY_SCALING = {
    "none": (
        *(applications.ConvNeXtTiny, applications.ConvNeXtSmall, applications.ConvNeXtBase),
        *(applications.ConvNeXtLarge, applications.ConvNeXtXLarge),
        *(applications.EfficientNetB0, applications.EfficientNetB1, applications.EfficientNetB2),
        *(applications.EfficientNetB3, applications.EfficientNetB4, applications.EfficientNetB5),
        *(applications.EfficientNetB6, applications.EfficientNetB7),
        *(applications.EfficientNetV2B0, applications.EfficientNetV2B1, applications.EfficientNetV2B2),
        *(applications.EfficientNetV2B3, applications.EfficientNetV2S, applications.EfficientNetV2M),
        *(applications.EfficientNetV2L, applications.MobileNetV3Small, applications.MobileNetV3Large),
    ),
    "caffe": (
        *(applications.ResNet50, applications.ResNet101, applications.ResNet152),
        *(applications.VGG16, applications.VGG19),
    ),
    "torch": (applications.DenseNet121, applications.DenseNet169, applications.DenseNet201),
    "tf": (
        *(applications.InceptionResNetV2, applications.InceptionV3, applications.Xception),
        *(applications.MobileNet, applications.MobileNetV2, applications.NASNetMobile, applications.NASNetLarge),
        *(applications.ResNet50V2, applications.ResNet101V2, applications.ResNet152V2),
    ),
}
# Five halvings leave a map from 32 pixels on. Stems that convolve without padding need more.
_LEAST_SIDES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
APPLICATIONS = {
    constructor.__name__: NamedBackbone(
        functools.partial(application_features, constructor=constructor),
        scaling=scaling,
        least_side=_LEAST_SIDES.get(constructor.__name__, 32),
        has_imagenet_weights=True,
    )
    for scaling, constructors in _BY_SCALING.items()
    for constructor in constructors
}
