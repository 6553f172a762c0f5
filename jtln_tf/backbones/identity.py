"""What a backbone is called in a file that was made by it."""

import hashlib
import pathlib

from jtln_tf.backbones.kerashub import KERASHUB


def identify_backbone(name, weights="none"):
    """Returns a text that is the same for the same backbone with the same first weights, wherever its files lie.

    Args:
        name: As for `build_backbone`.
        weights: As for `build_backbone`.
    """
    parts = [_identify(name)]
    if weights != "none":
        parts.append("imagenet" if weights == "imagenet" else _identify_file(weights))
    return ", ".join(parts)


def _identify(name):
    preset = pathlib.Path(name.removeprefix(KERASHUB))
    if name.startswith(KERASHUB):
        return _identify_folder(preset) if preset.is_dir() else name
    return _identify_file(name) if name.endswith(".keras") else name.lower()


def _identify_folder(folder):
    # What else stands there (a date, a description) makes no other backbone.
    paths = [
        path for pattern in ("config.json", "image_converter.json", "*.h5") for path in sorted(folder.glob(pattern))
    ]
    digest = hashlib.sha256(" ".join(map(_identify_file, paths)).encode()).hexdigest()
    return f"{KERASHUB}{folder.resolve().name} (sha256 {digest[:16]})"


def _identify_file(path):
    path = pathlib.Path(path)
    with path.open("rb") as file:
        return f"{path.name} (sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]})"
