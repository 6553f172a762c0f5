"""The trunks of `keras.applications`, each with the pixel scaling that its weights were trained on."""

import dataclasses
import warnings
from collections.abc import Callable

import keras
from keras import applications

from jtln_tf.backbones.pixels import expand_gray, scale_pixels
from jtln_tf.config import InputError

# Five halvings; keras.applications documents the same bound.
_LEAST_SIDE = 32
# keras divides by the root of this before EfficientNet's first convolution, only where it loads the ImageNet weights.
_EFFICIENTNET_EXTRA_SCALE = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Application:
    """One model of `keras.applications`.

    Attributes:
        constructor: Builds it.
        scaling: What its pixels need: `caffe`, `torch`, `tf`, or `none` where the model holds its own scaling.
        least_side: Smallest height and width that leaves a map to pool.
    """

    constructor: Callable
    scaling: str
    least_side: int = _LEAST_SIDE


APPLICATIONS = {
    "ConvNeXtBase": Application(applications.ConvNeXtBase, "none"),
    "ConvNeXtLarge": Application(applications.ConvNeXtLarge, "none"),
    "ConvNeXtSmall": Application(applications.ConvNeXtSmall, "none"),
    "ConvNeXtTiny": Application(applications.ConvNeXtTiny, "none"),
    "ConvNeXtXLarge": Application(applications.ConvNeXtXLarge, "none"),
    "DenseNet121": Application(applications.DenseNet121, "torch"),
    "DenseNet169": Application(applications.DenseNet169, "torch"),
    "DenseNet201": Application(applications.DenseNet201, "torch"),
    "EfficientNetB0": Application(applications.EfficientNetB0, "none"),
    "EfficientNetB1": Application(applications.EfficientNetB1, "none"),
    "EfficientNetB2": Application(applications.EfficientNetB2, "none"),
    "EfficientNetB3": Application(applications.EfficientNetB3, "none"),
    "EfficientNetB4": Application(applications.EfficientNetB4, "none"),
    "EfficientNetB5": Application(applications.EfficientNetB5, "none"),
    "EfficientNetB6": Application(applications.EfficientNetB6, "none"),
    "EfficientNetB7": Application(applications.EfficientNetB7, "none"),
    "EfficientNetV2B0": Application(applications.EfficientNetV2B0, "none"),
    "EfficientNetV2B1": Application(applications.EfficientNetV2B1, "none"),
    "EfficientNetV2B2": Application(applications.EfficientNetV2B2, "none"),
    "EfficientNetV2B3": Application(applications.EfficientNetV2B3, "none"),
    "EfficientNetV2L": Application(applications.EfficientNetV2L, "none"),
    "EfficientNetV2M": Application(applications.EfficientNetV2M, "none"),
    "EfficientNetV2S": Application(applications.EfficientNetV2S, "none"),
    # The Inception stems convolve without padding, so they need more pixels.
    "InceptionResNetV2": Application(applications.InceptionResNetV2, "tf", least_side=75),
    "InceptionV3": Application(applications.InceptionV3, "tf", least_side=75),
    "MobileNet": Application(applications.MobileNet, "tf"),
    "MobileNetV2": Application(applications.MobileNetV2, "tf"),
    "MobileNetV3Large": Application(applications.MobileNetV3Large, "none"),
    "MobileNetV3Small": Application(applications.MobileNetV3Small, "none"),
    "NASNetLarge": Application(applications.NASNetLarge, "tf"),
    "NASNetMobile": Application(applications.NASNetMobile, "tf"),
    "ResNet101": Application(applications.ResNet101, "caffe"),
    "ResNet101V2": Application(applications.ResNet101V2, "tf"),
    "ResNet152": Application(applications.ResNet152, "caffe"),
    "ResNet152V2": Application(applications.ResNet152V2, "tf"),
    "ResNet50": Application(applications.ResNet50, "caffe"),
    "ResNet50V2": Application(applications.ResNet50V2, "tf"),
    "VGG16": Application(applications.VGG16, "caffe"),
    "VGG19": Application(applications.VGG19, "caffe"),
    "Xception": Application(applications.Xception, "tf", least_side=71),
}


def application_features(image, name, *, imagenet):
    """Maps images to the pooled features of a `keras.applications` trunk.

    Args:
        image: Gray or RGB images [B, H, W, C] in 0..255.
        name: A key of `APPLICATIONS`.
        imagenet: Whether to start from the ImageNet weights, which keras downloads once.

    Returns:
        Features [B, D].

    Raises:
        InputError: If the weights cannot be downloaded.
    """
    application = APPLICATIONS[name]
    pixels = scale_pixels(expand_gray(image, 3), application.scaling)
    if not imagenet:
        return _build_trunk(application, pixels, None).output
    try:
        trunk = _build_trunk(application, pixels, "imagenet")
    except Exception as error:  # keras raises a bare Exception when a download fails.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"`weights`=imagenet must be downloaded by keras for {name}, which failed. Received: {reason}."
        ) from error
    if name.startswith("EfficientNetB"):
        return _without_extra_scaling(application, pixels, trunk).output
    return trunk.output


def _build_trunk(application, pixels, weights):
    with warnings.catch_warnings():
        # MobileNet has weights for some sizes only, and says that it takes those of 224 pixels elsewhere: as wanted.
        warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
        return application.constructor(include_top=False, weights=weights, input_tensor=pixels, pooling="avg")


def _without_extra_scaling(application, pixels, pretrained):
    """Rebuilds an ImageNet EfficientNet on the graph that it has without those weights.

    keras adds a scaling layer to this family only with `weights="imagenet"`. A weights file saved from one graph would
    load without complaint into the other and see its pixels at half their scale, so the scale goes into the weights:
    `(x - m) / sqrt(v) / sqrt(s) = (x - m) / sqrt(v s)`.
    """
    trunk = _build_trunk(application, pixels, None)
    trunk.set_weights(pretrained.get_weights())
    normalization = next(layer for layer in trunk.layers if isinstance(layer, keras.layers.Normalization))
    variance = normalization.adapt_variance
    variance.assign(variance * keras.ops.convert_to_tensor(_EFFICIENTNET_EXTRA_SCALE))
    normalization.finalize_state()
    return trunk
