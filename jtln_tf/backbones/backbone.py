"""Builds a backbone from its name or file: the trunk, its weights, and which of its layers are trained."""

import difflib
import numbers
import os

import keras

from jtln_tf.backbones.batch_norm import set_batchnorm_policy
from jtln_tf.backbones.dropout import key_dropouts
from jtln_tf.backbones.kerashub import KERASHUB, check_kerashub_preset, is_kerashub, kerashub_features
from jtln_tf.backbones.pixels import expand_gray, scale_pixels
from jtln_tf.backbones.precision import computing_in
from jtln_tf.backbones.registry import find_backbone
from jtln_tf.backbones.saved_trunk import is_saved_trunk, saved_features
from jtln_tf.backbones.weights import load_backbone_weights
from jtln_tf.config import InputError, MissingInputError, NetworkConfig

# For `freeze_until`: every layer, up to the features.
WHOLE_BACKBONE = "all"


def build_backbone(config: NetworkConfig, image_shape: tuple[int, int, int]) -> keras.Model:
    """Builds a functional model named `backbone`: images [B, H, W, C] in 0..255, C = 1 or 3, to features [B, D].

    The scaling of the pixels is part of the model. Gray images are repeated to the channels that the trunk needs. The
    layers up to `freeze_until`, in the order of `backbone.layers`, are not trained, or no layer at all if it is `all`;
    a BatchNormalization among them uses, and keeps, its moving statistics.

    Raises:
        MissingInputError: If a file does not exist.
        InputError: If an option or `image_shape`, (height, width, channels), does not fit.
    """
    check_backbone_files(config)
    _check_image_shape(image_shape)
    with computing_in(config.precision):
        backbone = _build_layers(config, image_shape)
    key_dropouts(backbone)
    # What `auto` stands for is settled where the machine is known; a backbone alone is trained.
    if config.freeze_until not in ("", "auto"):
        _freeze_layers(backbone, config.freeze_until)
    return backbone


def _build_layers(config, image_shape):
    image = keras.Input(tuple(image_shape), name="image")
    if is_kerashub(config.backbone):
        features = kerashub_features(image, config.backbone)
    elif is_saved_trunk(config.backbone):
        features = saved_features(image, config.backbone, pixel_range=config.pixel_range)
    else:
        features = _named_features(image, config)
    backbone = keras.Model(image, features, name="backbone")
    if _has_weights_file(config):
        load_backbone_weights(backbone, config.weights)
    return set_batchnorm_policy(backbone, config.batchnorm)


def check_backbone_files(config: NetworkConfig) -> None:
    """Checks a backbone's options and files without loading anything; raises what `build_backbone` would."""
    name, weights = config.backbone, config.weights
    if _brings_weights(config) and weights != "none":
        raise InputError(
            f"`weights` must be none for a .keras or {KERASHUB} `backbone`, which has its own. Received: {weights!r}."
        )
    if not is_saved_trunk(name) and config.pixel_range != "0_255":
        raise InputError(
            f"`pixel_range` must be 0_255 for {name}, which scales pixels itself. Received: {config.pixel_range!r}."
        )
    if is_kerashub(name):
        check_kerashub_preset(name)
    elif is_saved_trunk(name):
        if not os.path.isfile(name):
            raise MissingInputError(f"`backbone` must name an existing file. Received: {name!r}.")
    else:
        name, named = find_backbone(name)
        if weights == "imagenet" and not named.has_imagenet_weights:
            raise InputError(f"`weights` must be none or PATH.weights.h5 for {name}. Received: 'imagenet'.")
        if weights == "imagenet":
            named.check_imagenet_weights()
        if _has_weights_file(config) and not weights.endswith(".weights.h5"):
            raise InputError(f"`weights` must be none, imagenet or PATH.weights.h5. Received: {weights!r}.")
        if _has_weights_file(config) and not os.path.isfile(weights):
            raise MissingInputError(f"`weights` must name an existing file. Received: {weights!r}.")


def is_untrained(config: NetworkConfig) -> bool:
    """Returns whether the backbone of a configuration begins with random weights."""
    return not config.is_pretrained


def _brings_weights(config):
    return is_saved_trunk(config.backbone) or is_kerashub(config.backbone)


def _has_weights_file(config):
    return config.weights not in ("none", "imagenet")


def _check_image_shape(image_shape):
    is_shape = isinstance(image_shape, tuple | list) and len(image_shape) == 3 and image_shape[2] in (1, 3)
    if not is_shape or not all(isinstance(size, numbers.Integral) and size >= 1 for size in image_shape):
        raise InputError(
            f"`image_shape` must be (height, width, channels) with 1 or 3 channels. Received: {image_shape!r}."
        )


def _named_features(image, config):
    name, named = find_backbone(config.backbone)
    height, width = image.shape[1:3]
    if min(height, width) < named.least_side:
        raise InputError(
            f"`image_shape` must be at least {named.least_side} x {named.least_side} pixels for {name}. "
            f"Received: {height} x {width}."
        )
    pixels = scale_pixels(image if named.takes_gray else expand_gray(image, 3), named.scaling)
    return named.features(pixels, config.weights == "imagenet")


def _freeze_layers(backbone, last_name):
    names = [layer.name for layer in backbone.layers]
    if last_name not in (*names, WHOLE_BACKBONE):
        close = difflib.get_close_matches(last_name, names, n=5, cutoff=0.4) or names[-5:]
        raise InputError(
            f"`freeze_until` must name one of the {len(names)} layers of the backbone, such as {', '.join(close)}, "
            f"or all. Received: {last_name!r}."
        )
    end = len(names) if last_name == WHOLE_BACKBONE else names.index(last_name) + 1
    for layer in backbone.layers[:end]:
        layer.trainable = False
