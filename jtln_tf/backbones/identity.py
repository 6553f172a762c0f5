"""What a backbone is called in a file that was made by it."""

import hashlib
import pathlib


def identify_backbone(name, weights="none"):
    """Returns a text that is the same for the same backbone with the same first weights, wherever its files lie.

    Args:
        name: As for `build_backbone`.
        weights: As for `build_backbone`.
    """
    parts = [_identify_file(name) if name.endswith(".keras") else name.lower()]
    if weights != "none":
        parts.append("imagenet" if weights == "imagenet" else _identify_file(weights))
    return ", ".join(parts)


def _identify_file(path):
    path = pathlib.Path(path)
    with path.open("rb") as file:
        return f"{path.name} (sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]})"
