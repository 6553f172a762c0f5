"""Multi-kernel maximum mean discrepancy between the features of classes."""

import numpy as np

from jtln_tf.config import SIDES
from jtln_tf.costs.numerics.kernel import median_squared_distance, mix_gaussians
from jtln_tf.costs.numerics.kernel_features import NUM_FREQUENCIES, draw_frequencies, mkmmd_of_sums, sum_embeddings
from jtln_tf.costs.numerics.labelled import Labelled, split_classes
from jtln_tf.costs.numerics.whitening import choose_whitening, whiten_sides

# Pairs of a source and a target image beyond which `auto` takes the linear-time estimator.
_MOST_PAIRS = 2e8
# Kernel values that are held at once.
_BLOCK_VALUES = 2**21


def mkmmd_cost(source: Labelled, target: Labelled, *, scale: float | None = None) -> np.ndarray:
    """Computes the squared multi-kernel MMD of each source class to each target class, the unbiased estimate.

        MMD2(S, T) = mean k(s, s') + mean k(t, t') - 2 mean k(s, t),   k(x, y) = mean over r of exp(-|x - y|^2 / (r M))

    with r in `BANDWIDTH_FACTORS` and M the scale. The first two means are over pairs of different images; a class of
    one image has no such pair and gets k(x, x) = 1 instead, the biased value. Either is a constant of its row or
    column, which centring removes. Time grows with N times M.

    Args:
        source: Features [N, D] and class indices [N]; every class has an image.
        target: Features [M, D] and class indices [M]; every class has an image.
        scale: Unit of squared distances, above 0; None is the `median_squared_distance` of both domains together.

    Returns:
        float64 [n, m]; may be slightly negative, because the estimate scatters around 0 for classes that look the same.

    Reference:
        Gretton et al., 2012, A Kernel Two-Sample Test, Journal of Machine Learning Research 13, eq. 3.
    """
    if scale is None:
        scale = median_squared_distance(np.concatenate([source[0], target[0]]))
    # Distances do not depend on the origin, and near the data their rounding errors are smallest.
    origin = np.mean(source[0], axis=0, dtype=np.float64)
    source_classes, target_classes = (
        [(images - origin) / np.sqrt(scale) for images in split_classes(side)] for side in (source, target)
    )
    targets, target_counts = np.concatenate(target_classes), np.array([len(images) for images in target_classes])
    starts = np.cumsum([0, *target_counts[:-1]])
    between = [_sum_kernel(images, targets, starts) / (len(images) * target_counts) for images in source_classes]
    within_source, within_target = (
        np.array([_mean_within(images) for images in classes]) for classes in (source_classes, target_classes)
    )
    return within_source[:, None] + within_target - 2.0 * np.stack(between)


def _sum_kernel(x, y, starts):
    """Returns sums of the kernel values of all x [N, D] with the y [M, D] of each class, which begin at `starts`."""
    step = max(_BLOCK_VALUES // len(y), 1)
    blocks = (mix_gaussians(x[row : row + step], y) for row in range(0, len(x), step))
    return np.add.reduceat(sum(block.sum(axis=0) for block in blocks), starts)


def _mean_within(images):
    count = len(images)
    # The kernel value of an image with itself is 1.
    return (_sum_kernel(images, images, [0])[0] - count) / (count * (count - 1.0)) if count > 1 else 1.0


def compute_mkmmd(evidence) -> tuple[np.ndarray, dict]:
    """Compares features over all pairs of images, or in linear time."""
    estimator, described = evidence.cost.estimator, evidence.describe_images()
    if estimator == "auto":
        estimator = "exact" if evidence.count("source") * evidence.count("target") <= _MOST_PAIRS else "linear"
    if estimator == "linear":
        values, is_whitened = _compare_in_linear_time(evidence)
        return values, {**described, "whitened": is_whitened, "frequencies": NUM_FREQUENCIES}
    sides, is_whitened = whiten_sides(evidence.features, evidence.cost.whitening)
    return mkmmd_cost(*sides), {**described, "whitened": is_whitened}


def _compare_in_linear_time(evidence):
    model = evidence.features_model
    samples = [evidence.sample(side, model) for side in SIDES]
    whiten, is_whitened = choose_whitening(samples, evidence.cost.whitening)
    sample = np.concatenate([whiten(features) for features, _ in samples])
    frequencies = draw_frequencies(median_squared_distance(sample), sample.shape[1])
    sums = []
    for side in SIDES:
        batches = ((whiten(features), labels) for features, labels in evidence.stream(side, model))
        sums.append(sum_embeddings(batches, frequencies, evidence.domains[side].num_classes))
    return mkmmd_of_sums(*sums), is_whitened
