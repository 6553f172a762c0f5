"""Multi-kernel maximum mean discrepancy between the features of classes, exactly: the time grows with N times M."""

import numpy as np

from jtln_tf.config import InputError

# Bandwidths around the median heuristic, as in Long et al., 2015, arXiv:1502.02791. Each is half of the next.
BANDWIDTH_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
# Pairs of images that the median of squared distances is estimated from, and how many are read at once.
_MEDIAN_PAIRS = 20_000
_PAIRS_AT_ONCE = 1_000
# Images on each side of a block of kernel values: memory does not depend on the number of images or the class sizes.
_BLOCK_IMAGES = 1_024


def mkmmd_cost(
    source_features,
    source_labels,
    target_features,
    target_labels,
    *,
    num_source_classes,
    num_target_classes,
    scale=None,
):
    """Squared multi-kernel MMD of each source class to each target class, the unbiased estimate.

        MMD2(S, T) = mean k(s, s') + mean k(t, t') - 2 mean k(s, t),   k(x, y) = mean over r of exp(-|x - y|^2 / (r M))

    with r in `BANDWIDTH_FACTORS` and M the scale. The first two means are over pairs of different images; a class of
    one image has no such pair and gets k(x, x) = 1 instead, the biased value. Either is a constant of its row or
    column, which centring removes.

    Args:
        source_features: [N, D].
        source_labels: Class indices [N]; every class has an image.
        target_features: [M, D].
        target_labels: Class indices [M]; every class has an image.
        num_source_classes: n.
        num_target_classes: m.
        scale: Unit of squared distances, above 0; None is the `median_squared_distance` of the two domains together.

    Returns:
        float64 [n, m]; may be slightly negative, as the estimate scatters around 0 for classes that look the same.

    Raises:
        InputError: If shapes do not fit each other, a class has no image, or the scale is not above 0.

    Reference:
        Gretton et al., 2012, A Kernel Two-Sample Test, Journal of Machine Learning Research 13, eq. 3.
    """
    source, target = np.asarray(source_features), np.asarray(target_features)
    source_rows = _rows_by_class(source, source_labels, num_source_classes, "source")
    target_rows = _rows_by_class(target, target_labels, num_target_classes, "target")
    if source.shape[1] != target.shape[1]:
        raise InputError(
            f"`target_features` must have the {source.shape[1]} dimensions of `source_features`. "
            f"Received: {target.shape[1]}."
        )
    if scale is None:
        scale = median_squared_distance(np.concatenate([source, target]))
    check_scale(scale)
    # Distances do not depend on the origin; near the data their rounding errors are smallest.
    centre, unit = source.mean(axis=0, dtype=np.float64), np.sqrt(scale)

    def read(features, rows):
        return (features[rows] - centre) / unit

    within_source = [_mean_kernel_within(source, rows, read) for rows in source_rows]
    within_target = [_mean_kernel_within(target, rows, read) for rows in target_rows]
    between = np.zeros((num_source_classes, num_target_classes))
    for source_block, source_classes in _blocks(source_rows):
        x = read(source, source_block)
        for target_block, target_classes in _blocks(target_rows):
            kernel = _kernel(x, read(target, target_block))
            rows, row_starts = np.unique(source_classes, return_index=True)
            columns, column_starts = np.unique(target_classes, return_index=True)
            sums = np.add.reduceat(np.add.reduceat(kernel, column_starts, axis=1), row_starts, axis=0)
            between[np.ix_(rows, columns)] += sums
    between /= np.outer([len(rows) for rows in source_rows], [len(rows) for rows in target_rows])
    return np.array(within_source)[:, None] + np.array(within_target)[None] - 2.0 * between


def median_squared_distance(features, seed=0):
    """The median heuristic: the median of |x - y|^2 over drawn pairs of different images.

    Args:
        features: [N, D].
        seed: Seed of the draw of up to 20,000 pairs.

    Returns:
        The median; the mean where the median is 0, and 1 where all distances are 0.

    Reference:
        Gretton et al., 2012, A Kernel Two-Sample Test, Journal of Machine Learning Research 13, section 8.
    """
    features, rng = np.asarray(features), np.random.default_rng(seed)
    first, second = rng.integers(0, len(features), (2, _MEDIAN_PAIRS))
    first, second = first[first != second], second[first != second]
    distances = np.zeros(len(first))
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        pairs = slice(start, start + _PAIRS_AT_ONCE)
        distances[pairs] = (np.subtract(features[first[pairs]], features[second[pairs]], dtype=np.float64) ** 2).sum(1)
    median = float(np.median(distances)) if len(distances) else 0.0
    # Constant features have no scale; any does, as all distances are 0.
    return median or float(distances.mean() if len(distances) else 0.0) or 1.0


def check_scale(scale):
    """Raises `InputError` where the unit of squared distances is not a finite number above 0."""
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"`scale` must be a finite number above 0. Received: {scale}.")


def check_finite(name, features):
    """Raises `InputError` where an entry of the features [N, D] is not a finite number."""
    is_wrong = ~np.isfinite(features)
    if is_wrong.any():
        image, dimension = np.argwhere(is_wrong)[0]
        raise InputError(f"`{name}` must be finite. Received: {features[image, dimension]} in image {image}.")


def _rows_by_class(features, labels, num_classes, side):
    labels = np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise InputError(
            f"`{side}_features` must have shape [images, dimensions], and `{side}_labels` [images]. "
            f"Received: {list(features.shape)} and {list(labels.shape)}."
        )
    check_finite(f"{side}_features", features)
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise InputError(
            f"`{side}_labels` must be from 0 to {num_classes - 1}. Received: {labels.min()} to {labels.max()}."
        )
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise InputError(f"`{side}_labels` must have images of each class. Received: none of class {counts.argmin()}.")
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])


def _blocks(rows_by_class):
    """Yields indices of images in the order of their classes, and their classes, a block at a time."""
    rows = np.concatenate(rows_by_class)
    classes = np.repeat(np.arange(len(rows_by_class)), [len(of_class) for of_class in rows_by_class])
    for start in range(0, len(rows), _BLOCK_IMAGES):
        yield rows[start : start + _BLOCK_IMAGES], classes[start : start + _BLOCK_IMAGES]


def _mean_kernel_within(features, rows, read):
    count = len(rows)
    if count == 1:
        return 1.0
    blocks = [rows[start : start + _BLOCK_IMAGES] for start in range(0, count, _BLOCK_IMAGES)]
    total = sum(_kernel(read(features, x), read(features, y)).sum() for x in blocks for y in blocks)
    # An image to itself has the kernel value 1.
    return (total - count) / (count * (count - 1.0))


def _kernel(x, y):
    distances = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2.0 * x @ y.T
    np.maximum(distances, 0.0, out=distances)
    # The widest Gaussian; the square of each is the one of half its bandwidth, at a fraction of what exp costs.
    gaussian = np.exp(np.divide(distances, -BANDWIDTH_FACTORS[-1], out=distances), out=distances)
    total = gaussian.copy()
    for _ in BANDWIDTH_FACTORS[1:]:
        gaussian *= gaussian
        total += gaussian
    total /= len(BANDWIDTH_FACTORS)
    return total
