"""Multi-kernel maximum mean discrepancy between the features of classes."""

import functools

import numpy as np

from jtln_tf.config import SIDES, InputError
from jtln_tf.costs.numerics.kernel import median_squared_distance, mix_gaussians
from jtln_tf.costs.numerics.kernel_features import (
    NUM_FREQUENCIES,
    ClassEmbeddings,
    draw_kernel_features,
    mkmmd_of_embeddings,
)
from jtln_tf.costs.numerics.labelled import Labelled, split_sides
from jtln_tf.costs.numerics.whitening import choose_whitening, whiten_sides

# Pairs of a source and a target image beyond which `auto` takes the linear-time estimator.
_MOST_PAIRS = 2e8
# Images on each side of a block of kernel values: memory does not grow with the number of images.
_BLOCK_IMAGES = 1_024


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

    Raises:
        InputError: If shapes do not fit each other, a class has no image, or the scale is not above 0.

    Reference:
        Gretton et al., 2012, A Kernel Two-Sample Test, Journal of Machine Learning Research 13, eq. 3.
    """
    (source, source_rows), (target, target_rows) = split_sides(source, target)
    if scale is None:
        scale = median_squared_distance(np.concatenate([source, target]))
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"`scale` must be a finite number above 0. Received: {scale}.")
    # Distances do not depend on the origin, and near the data their rounding errors are smallest.
    centre, unit = source.mean(axis=0, dtype=np.float64), np.sqrt(scale)

    def read(features, rows):
        return (features[rows] - centre) / unit

    read_source, read_target = functools.partial(read, source), functools.partial(read, target)
    within_source = np.array([_mean_within(rows, read_source) for rows in source_rows])
    within_target = np.array([_mean_within(rows, read_target) for rows in target_rows])
    between = _means_between(source_rows, read_source, target_rows, read_target)
    return within_source[:, None] + within_target[None] - 2.0 * between


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
    kernel_features = draw_kernel_features(median_squared_distance(sample), sample.shape[1])
    embeddings = []
    for side in SIDES:
        embedding = ClassEmbeddings(evidence.domains[side].num_classes, kernel_features.width)
        for features, labels in evidence.stream(side, model):
            embedding.add(kernel_features(whiten(features)), labels)
        embeddings.append(embedding)
    return mkmmd_of_embeddings(*embeddings), is_whitened


def _mean_within(rows, read):
    count = len(rows)
    if count == 1:
        return 1.0
    blocks = [rows[start : start + _BLOCK_IMAGES] for start in range(0, count, _BLOCK_IMAGES)]
    total = sum(mix_gaussians(read(x), read(y)).sum() for x in blocks for y in blocks)
    # The kernel value of an image with itself is 1.
    return (total - count) / (count * (count - 1.0))


def _means_between(source_rows, read_source, target_rows, read_target):
    sums = np.zeros((len(source_rows), len(target_rows)))
    for source_block, source_classes in _blocks(source_rows):
        x = read_source(source_block)
        rows, row_starts = np.unique(source_classes, return_index=True)
        for target_block, target_classes in _blocks(target_rows):
            kernel = mix_gaussians(x, read_target(target_block))
            columns, column_starts = np.unique(target_classes, return_index=True)
            parts = np.add.reduceat(np.add.reduceat(kernel, column_starts, axis=1), row_starts, axis=0)
            sums[np.ix_(rows, columns)] += parts
    return sums / np.outer([len(rows) for rows in source_rows], [len(rows) for rows in target_rows])


def _blocks(rows_by_class):
    """Yields positions of images in the order of their classes, and their classes, a block at a time."""
    rows = np.concatenate(rows_by_class)
    classes = np.repeat(np.arange(len(rows_by_class)), [len(of_class) for of_class in rows_by_class])
    for start in range(0, len(rows), _BLOCK_IMAGES):
        yield rows[start : start + _BLOCK_IMAGES], classes[start : start + _BLOCK_IMAGES]
