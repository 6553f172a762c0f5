"""The text that names a backbone in files that were made with it."""

import hashlib
import pathlib

from jtln_tf.backbones.kerashub import KERASHUB, is_kerashub
from jtln_tf.backbones.saved_trunk import is_saved_trunk
from jtln_tf.config import NetworkConfig


def identify_backbone(config: NetworkConfig) -> str:
    """Returns a text that is the same for the same backbone with the same first weights, wherever its files lie."""
    parts = [_identify(config.backbone)]
    if config.weights != "none":
        parts.append("imagenet" if config.weights == "imagenet" else _identify_file(config.weights))
    return ", ".join(parts)


def _identify(name):
    if is_kerashub(name):
        preset = pathlib.Path(name.removeprefix(KERASHUB))
        return _identify_folder(preset) if preset.is_dir() else name
    return _identify_file(name) if is_saved_trunk(name) else name.lower()


def _identify_folder(folder):
    # The other files (a date, a description) do not change what the backbone computes.
    paths = [folder / "config.json", folder / "image_converter.json", *sorted(folder.glob("*.h5"))]
    digest = hashlib.sha256(" ".join(map(_identify_file, filter(pathlib.Path.is_file, paths))).encode()).hexdigest()
    return f"{KERASHUB}{folder.resolve().name} (sha256 {digest[:16]})"


def _identify_file(path):
    path = pathlib.Path(path)
    with path.open("rb") as file:
        return f"{path.name} (sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]})"
