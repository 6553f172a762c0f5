"""The model card of an export: what it was trained on, how good it is, and what it cannot do."""

import pathlib
import platform

import keras
import numpy as np
import tensorflow as tf

import jtln_tf
from jtln_tf.export.layout import CARD_FILE, CHECKSUM_FILE, README_FILE, SIGNATURES, VERSION
from jtln_tf.files import write_json, write_whole

_LIMITS = (
    "Every image gets one of the target classes, also an image of something else.",
    "Scores are softmax probabilities of the network. They are not calibrated.",
    "Images are JPEG, PNG, WebP, GIF (first frame) or uncompressed BMP files of up to 134,217,728 pixels. The central "
    "square is seen.",
)
_MOST_NAMED = 20


def describe_export(
    network: keras.Model,
    class_names: dict[str, list[str]],
    *,
    crop_bottom: int,
    facts: dict | None,
    formats: list[dict],
) -> dict:
    """Returns the values of `model_card.json`; `facts` are those of a run: data, training and accuracy."""
    _, height, _, channels = network.input_shape
    limits = list(_LIMITS)
    if crop_bottom:
        limits.append(f"The {crop_bottom} rows of pixels at the bottom of every file are cut off first.")
    return {
        "classes": class_names,
        "input": {"image_size": height, "channels": channels, "crop_bottom": crop_bottom},
        "weights": int(sum(np.prod(variable.shape) for variable in network.variables)),
        "signatures": list(SIGNATURES),
        **(facts or {}),
        "formats": formats,
        "limits": limits,
        "versions": {
            "jtln_tf": jtln_tf.__version__,
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }


def write_card(folder: pathlib.Path, card: dict) -> None:
    """Writes the card as JSON and as a page."""
    write_json(folder / CARD_FILE, card)
    write_whole(folder / README_FILE, _render(card))


def _render(card):
    """Returns the page in Markdown."""
    target, given = card["classes"]["target"], card["input"]
    more = f" and {len(target) - _MOST_NAMED} more" if len(target) > _MOST_NAMED else ""
    rows = {
        "Classes": f"{len(target)}: {', '.join(target[:_MOST_NAMED])}{more}",
        "Input": f"{given['image_size']} x {given['image_size']} pixels, {given['channels']} channels, cut and resized "
        "inside",
        "Weights": f"{card['weights']:,}",
    }
    for name in ("data", "training", "accuracy"):
        rows |= {key.replace("_", " "): _cell(value) for key, value in card.get(name, {}).items()}
    rows |= {f"{one['file']}": _describe_format(one) for one in card["formats"]}
    rows["Versions"] = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    lines = ["# Model card", "", "| | |", "|---|---|"]
    # A name of a class may hold anything.
    lines += [f"| {_plain(name)} | {_plain(text)} |" for name, text in rows.items()]
    lines += ["", "## Limits", "", *(f"- {limit}" for limit in card["limits"]), "", "## Use", ""]
    lines += [f"`{VERSION}/` is a SavedModel with the signatures {', '.join(card['signatures'])}.", ""]
    lines += ["```bash", f"saved_model_cli show --dir {VERSION} --all", f"sha256sum -c {CHECKSUM_FILE}", "```", ""]
    return "\n".join(lines)


def _cell(value):
    return f"{100 * value:.1f} %" if isinstance(value, float) else str(value)


def _describe_format(row):
    return (
        f"same class for {100 * row['agreement']:.1f} % of {row['images']} images, difference {row['difference']:.1g}"
    )


def _plain(text):
    return "".join(f"\\{one}" if one in "|<>`*_[]\\" else one for one in " ".join(str(text).split()))
