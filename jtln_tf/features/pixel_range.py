"""Whether a saved backbone sees the range of pixels that it was trained on: measured, because no file says it."""

import math

import keras
import numpy as np
from absl import logging

from jtln_tf.backbones.pixels import SCALES
from jtln_tf.config import PIXEL_RANGES
from jtln_tf.data import Split

_NUM_IMAGES = 16
# In a range that is too small all images look alike: measured spreads are 3 to 20 times as small as in the right one,
# and within 5 % of each other where two ranges are about right.
_LEAST_SPREAD = 1 / 3
# In a range that is too large pixels saturate, and features spread nearly as before. The variance before the first
# BatchNormalization is then 10,000 times that of its training. 0..1 and -1..1 differ by 4, as two data sets may.
_MOST_MISMATCH = math.log(16)


def warn_of_pixel_range(backbone: keras.Model, split: Split, pixel_range: str) -> None:
    """Warns in one line if some images of a split show that a backbone was trained on another range of pixels."""
    rows = np.unique(np.linspace(0, len(split) - 1, _NUM_IMAGES).astype(int))
    images = next(iter(split.take(rows).batches(_NUM_IMAGES)))[0]
    better = find_better_range(backbone, np.asarray(images, np.float32), pixel_range)
    if better:
        logging.warning(
            "--pixel_range=%s does not seem to be the range that the backbone was trained on: training images fit it "
            "far better with --pixel_range=%s.",
            pixel_range,
            better,
        )


def find_better_range(backbone: keras.Model, images: np.ndarray, pixel_range: str) -> str | None:
    """Returns the range of pixels that fits a backbone far better than `pixel_range`, or None.

    Args:
        backbone: Images [B, H, W, C] in 0..255 to features [B, D]; it begins by scaling them to `pixel_range`.
        images: Different images, float32 [N, H, W, C] in 0..255.
        pixel_range: One of `PIXEL_RANGES`.
    """
    norm, norm_input = _find_first_norm(backbone)
    model = keras.Model(backbone.input, [backbone.output] + ([norm_input] if norm else []))
    spreads, mismatches = {}, {}
    for other in PIXEL_RANGES:
        features, *inputs = (keras.ops.convert_to_numpy(x) for x in _flat(model(_rescale(images, pixel_range, other))))
        spreads[other] = _relative_spread(features)
        mismatches[other] = _mismatch(norm, inputs[0]) if inputs else 0.0
    best = max(PIXEL_RANGES, key=spreads.get)
    if spreads[pixel_range] < _LEAST_SPREAD * spreads[best]:
        return best
    best = min(PIXEL_RANGES, key=mismatches.get)
    return best if mismatches[pixel_range] > mismatches[best] + _MOST_MISMATCH else None


def _flat(outputs):
    return outputs if isinstance(outputs, list | tuple) else [outputs]


def _rescale(images, pixel_range, other):
    """Returns images that the scaling to `pixel_range` takes to where the scaling to `other` would take these."""
    (scale, offset), (other_scale, other_offset) = SCALES[pixel_range], SCALES[other]
    return (images * other_scale + other_offset - offset) / scale


def _relative_spread(features):
    """Returns the distance of features [N, D] to their mean, in units of their length."""
    features = features.astype(np.float64)
    return np.linalg.norm(features - features.mean(0)) / max(np.linalg.norm(features), 1e-12)


def _find_first_norm(backbone):
    for _, level in sorted(backbone._nodes_by_depth.items(), reverse=True):
        for node in level:
            if isinstance(node.operation, keras.layers.BatchNormalization):
                inputs = node.input_tensors[0]
                is_last = node.operation.moving_variance.shape == inputs.shape[-1:]
                return (node.operation, inputs) if is_last else (None, None)
    return None, None


def _mismatch(norm, inputs):
    """Returns by how much the variances of channels differ from those of the training: median, logarithm."""
    variances = inputs.astype(np.float64).reshape(-1, inputs.shape[-1]).var(0)
    known = keras.ops.convert_to_numpy(norm.moving_variance)
    return float(np.median(np.abs(np.log((variances + norm.epsilon) / (known + norm.epsilon)))))
