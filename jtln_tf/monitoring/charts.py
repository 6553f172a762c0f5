"""What the numbers, pictures and texts of a run are called in TensorBoard, which groups and sorts them by name."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from jtln_tf.batches import augment_images
from jtln_tf.batches.shuffling import mix_seed, shuffled_rows
from jtln_tf.config import SIDES, AugmentationSpec
from jtln_tf.data import Domain
from jtln_tf.files import escape_name
from jtln_tf.report.confusion import draw_confusion
from jtln_tf.report.heat_map import draw_pixels
from jtln_tf.report.mistakes import draw_mistakes, read_mistakes

# Rows and columns of the images of a batch; a gap between them in pixels; a picture's least side.
_ROWS, _COLUMNS, _GAP, _LEAST_SIDE = 2, 8, 2, 64
_TRANSPORT = ("transport_", "sinkhorn_", "cost_", "marginal_")
_PICTURES = {
    "confusion": "accuracy/confusion_target_validation",
    "mistakes": "accuracy/mistakes_target_validation",
    "cost_matrix": "transport/cost_matrix",
    "mean_plan": "transport/mean_plan",
}


def chart_name(name: str) -> str:
    """Returns what a number of `metrics.jsonl`, or a picture, is called in TensorBoard.

    Validation comes first in its group. Training figures are means over the steps before, of augmented images.

    Examples:
        >>> chart_name("target_validation_accuracy"), chart_name("transport_loss"), chart_name("head_learning_rate")
        ('accuracy/validation_target', 'loss/while_training_transport', 'lr/head')
    """
    if name in _PICTURES:
        return _PICTURES[name]
    for side in SIDES:
        for kind in ("accuracy", "loss"):
            if name == f"{side}_validation_{kind}":
                return f"{kind}/validation_{side}"
        if name == f"{side}_train_accuracy":
            return f"accuracy/while_training_{side}"
    if name == "loss":
        return "loss/while_training"
    for ending, group in (("_loss", "loss/while_training_"), ("_learning_rate", "lr/")):
        if name.endswith(ending):
            return group + name.removesuffix(ending)
    if name.endswith(("_per_second", "_seconds")):
        return f"throughput/{name}"
    if name.startswith(_TRANSPORT):
        return f"transport/{name.removeprefix('transport_')}"
    return f"data/{name}"


def log_opening(log, options: Mapping[str, Mapping], about: Mapping[str, str]) -> None:
    """Writes what a run begins with: its options by section, as a text and for the table of runs, and its data."""
    rows = [(section, name, value) for section, values in options.items() for name, value in values.items()]
    lines = [f"| {section} | {name} | {_as_cell(value)} |" for section, name, value in rows]
    log.write_text("configuration", "\n".join(["| section | option | value |", "|---|---|---|", *lines]))
    lines = [f"| {name} | {_as_cell(value)} |" for name, value in about.items()]
    log.write_text("data", "\n".join(["| what | value |", "|---|---|", *lines]))
    # Of the kinds that the table knows.
    kinds = (bool, int, float)
    log.write_options({name: value if isinstance(value, kinds) else _as_text(value) for _, name, value in rows})


def log_validation(log, step: int, target: Domain, confusion: np.ndarray, mistakes: Sequence[Mapping]) -> None:
    """Draws what was predicted of the target's validation images: the confusion matrix, and the worst mistakes."""
    log.write_image(step, "confusion", draw_pixels(draw_confusion(confusion, target.class_names)))
    if shown := read_mistakes(target.validation, target.class_names, mistakes):
        log.write_image(step, "mistakes", draw_pixels(draw_mistakes(shown)))


def log_batches(log, step: int, batches: Mapping[str, np.ndarray]) -> None:
    """Shows augmented images by side."""
    for side, picture in batches.items():
        log.write_image(step, f"batch_{side}", picture)


def draw_batch(domain: Domain, policy: AugmentationSpec, batch_size: int, seed: int, stream: int) -> np.ndarray:
    """Draws the first images of a run's first batch as augmented, uint8 [H, W, 3]; mixing is left out.

    `stream` is the number of the side. From a cache of activations a run takes other views, by the same policy.
    """
    split = domain.train
    count = min(_ROWS * _COLUMNS, batch_size)
    rows, _ = shuffled_rows(tf.range(count, dtype=tf.int64), len(split), mix_seed(seed, stream))
    chosen = split.take(np.asarray(rows))
    images, _ = next(iter(chosen.batches(count)))
    positions = tf.range(count, dtype=tf.int64)
    options = {"policy": policy, "positions": positions, "batch_size": batch_size}
    images = np.asarray(augment_images(images, mix_seed(seed, stream), 0, **options))
    images = np.clip(np.round(images), 0, 255).astype(np.uint8)
    # Small digits would be specks.
    images = np.repeat(images, 3 if images.shape[-1] == 1 else 1, axis=-1)
    factor = -(-_LEAST_SIDE // images.shape[1])
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    framed = np.pad(images, ((0, -count % _COLUMNS), (0, _GAP), (0, _GAP), (0, 0)), constant_values=255)
    height, width = framed.shape[1:3]
    grid = framed.reshape(-1, _COLUMNS, height, width, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(-1, _COLUMNS * width, 3)


def _as_text(value):
    # Half a pair of surrogates, as Python has in names of files, cannot be written.
    return "".join(escape_name(str(value)))


def _as_cell(value):
    return _as_text(value).replace("|", "\\|")
