"""The backbones that have a name. A new one is a file with a `NamedBackbone`, and a line here."""

import difflib

from jtln_tf.backbones.alexnet import ALEXNET
from jtln_tf.backbones.applications import APPLICATIONS
from jtln_tf.backbones.efficientnet_lite import LITE0
from jtln_tf.backbones.kerashub import KERASHUB
from jtln_tf.backbones.named import NamedBackbone
from jtln_tf.backbones.small_cnn import SMALL_CNN
from jtln_tf.config import InputError

NAMED_BACKBONES = {"small_cnn": SMALL_CNN, "efficientnet_lite0": LITE0, "alexnet": ALEXNET, **APPLICATIONS}
_NAMES_BY_LOWER_CASE = {name.lower(): name for name in NAMED_BACKBONES}


def find_backbone(name: str) -> tuple[str, NamedBackbone]:
    """Returns a backbone and its name as the registry spells it, from a name in any case, or raises an `InputError`."""
    found = _NAMES_BY_LOWER_CASE.get(name.lower())
    if found is None:
        close = difflib.get_close_matches(name.lower(), _NAMES_BY_LOWER_CASE, n=3, cutoff=0.5)
        names = [_NAMES_BY_LOWER_CASE[match] for match in close]
        names += [other for other in NAMED_BACKBONES if other not in names]
        raise InputError(
            f"`backbone` must be PATH.keras, {KERASHUB}PRESET or one of {', '.join(names)}. Received: {name!r}."
        )
    return found, NAMED_BACKBONES[found]


def usual_image_size(name: str) -> int | None:
    """Returns the side of the images that the published weights of a backbone need, or None if any side will do."""
    found = _NAMES_BY_LOWER_CASE.get(name.lower())
    return NAMED_BACKBONES[found].usual_side if found else None
