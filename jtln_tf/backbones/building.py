"""Builds a backbone from its name or file: the trunk, its weights, and which of its layers are trained."""

import difflib
import numbers

import keras

from jtln_tf.backbones.alexnet import ALEXNET_LEAST_SIDE, alexnet_features
from jtln_tf.backbones.applications import APPLICATIONS, application_features
from jtln_tf.backbones.batch_norm import set_batchnorm_policy
from jtln_tf.backbones.kerashub import KERASHUB, kerashub_features
from jtln_tf.backbones.pixels import PIXEL_RANGES
from jtln_tf.backbones.saved_trunk import saved_features
from jtln_tf.backbones.small_cnn import small_cnn_features
from jtln_tf.backbones.weights import load_backbone_weights
from jtln_tf.config import InputError

# Trunks of our own, which have no published weights.
_OWN_TRUNKS = {"small_cnn": small_cnn_features, "alexnet": alexnet_features}
_LEAST_SIDES = {"small_cnn": 1, "alexnet": ALEXNET_LEAST_SIDE} | {
    name: application.least_side for name, application in APPLICATIONS.items()
}
BACKBONE_NAMES = tuple(_LEAST_SIDES)
_NAMES_BY_LOWER_CASE = {name.lower(): name for name in BACKBONE_NAMES}


def build_backbone(name, image_shape, *, weights="none", pixel_range="0_255", freeze_until="", batchnorm="train"):
    """Builds a backbone that maps raw pixels to features.

    The scaling of the pixels is part of the model. Gray images are repeated to the channels that the trunk needs.

    Args:
        name: `small_cnn`, `alexnet`, the name of a `keras.applications` model in any case, the path of a `.keras` file,
            or `kerashub:` with the name or the folder of a KerasHub preset.
        image_shape: `(height, width, channels)` of the images, with 1 or 3 channels.
        weights: `none` (random, or those of the `.keras` file or the preset), `imagenet`, or the path of a
            `.weights.h5` file.
        pixel_range: Range of pixels that the model in a `.keras` file expects: `0_255`, `0_1` or `-1_1`.
        freeze_until: Name of the last layer that is not trained, in the order of `backbone.layers`; empty trains all.
            A frozen BatchNormalization uses, and keeps, its moving statistics.
        batchnorm: What the BatchNormalization layers do in training; see `set_batchnorm_policy`.

    Returns:
        A functional `keras.Model` named `backbone`: images [B, H, W, C] in 0..255 to features [B, D].

    Raises:
        MissingInputError: If a file does not exist.
        InputError: If an argument does not fit.
    """
    _check_image_shape(image_shape)
    if pixel_range not in PIXEL_RANGES:
        raise InputError(f"`pixel_range` must be one of {', '.join(PIXEL_RANGES)}. Received: {pixel_range!r}.")
    image = keras.Input(tuple(image_shape), name="image")
    if weights != "none" and (name.endswith(".keras") or name.startswith(KERASHUB)):
        raise InputError(
            f"`weights` must be none for a .keras or {KERASHUB} `backbone`, which has its own. Received: {weights!r}."
        )
    if name.startswith(KERASHUB):
        _check_pixel_range(name, pixel_range)
        features = kerashub_features(image, name)
    elif name.endswith(".keras"):
        features = saved_features(image, name, pixel_range=pixel_range)
    else:
        name = _find_name(name)
        _check_named_options(name, image_shape, weights, pixel_range)
        if name in _OWN_TRUNKS:
            features = _OWN_TRUNKS[name](image)
        else:
            features = application_features(image, name, imagenet=weights == "imagenet")
    backbone = keras.Model(image, features, name="backbone")
    if weights not in ("none", "imagenet"):
        load_backbone_weights(backbone, weights)
    backbone = set_batchnorm_policy(backbone, batchnorm)
    if freeze_until:
        _freeze_layers(backbone, freeze_until)
    return backbone


def _check_image_shape(image_shape):
    fits = (
        isinstance(image_shape, tuple | list)
        and len(image_shape) == 3
        and all(isinstance(size, numbers.Integral) and size >= 1 for size in image_shape)
        and image_shape[2] in (1, 3)
    )
    if not fits:
        raise InputError(
            f"`image_shape` must be (height, width, channels) with 1 or 3 channels. Received: {image_shape!r}."
        )


def _find_name(name):
    found = _NAMES_BY_LOWER_CASE.get(name.lower())
    if found is None:
        close = difflib.get_close_matches(name.lower(), _NAMES_BY_LOWER_CASE, n=3, cutoff=0.5)
        names = [_NAMES_BY_LOWER_CASE[match] for match in close]
        names += [other for other in BACKBONE_NAMES if other not in names]
        raise InputError(
            f"`backbone` must be PATH.keras, {KERASHUB}PRESET or one of {', '.join(names)}. Received: {name!r}."
        )
    return found


def _check_pixel_range(name, pixel_range):
    if pixel_range != "0_255":
        raise InputError(
            f"`pixel_range` must be 0_255 for {name}, which scales pixels itself. Received: {pixel_range!r}."
        )


def _check_named_options(name, image_shape, weights, pixel_range):
    _check_pixel_range(name, pixel_range)
    if min(image_shape[:2]) < _LEAST_SIDES[name]:
        raise InputError(
            f"`image_shape` must be at least {_LEAST_SIDES[name]} x {_LEAST_SIDES[name]} pixels for {name}. "
            f"Received: {image_shape[0]} x {image_shape[1]}."
        )
    if weights == "imagenet" and name in _OWN_TRUNKS:
        raise InputError(f"`weights` must be none or PATH.weights.h5 for {name}. Received: 'imagenet'.")
    if weights not in ("none", "imagenet") and not weights.endswith(".weights.h5"):
        raise InputError(f"`weights` must be none, imagenet or PATH.weights.h5. Received: {weights!r}.")


def _freeze_layers(backbone, last_name):
    names = [layer.name for layer in backbone.layers]
    if last_name not in names:
        close = difflib.get_close_matches(last_name, names, n=5, cutoff=0.4) or names[-5:]
        raise InputError(
            f"`freeze_until` must name one of the {len(names)} layers of the backbone, such as {', '.join(close)}. "
            f"Received: {last_name!r}."
        )
    for layer in backbone.layers[: names.index(last_name) + 1]:
        layer.trainable = False
