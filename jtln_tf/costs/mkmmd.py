"""Multi-kernel maximum mean discrepancy between the features of classes."""

import numpy as np

# Bandwidths around the median heuristic, as in Long et al., 2015, arXiv:1502.02791.
BANDWIDTH_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
# Pairs of images that the median of squared distances is estimated from.
_MEDIAN_PAIRS = 20_000


def mkmmd_cost(
    source_features, source_labels, target_features, target_labels, *, num_source_classes, num_target_classes
):
    """Squared multi-kernel MMD of each source class to each target class.

        MMD2(S, T) = mean k(s, s') + mean k(t, t') - 2 mean k(s, t),   k(x, y) = mean over r of exp(-|x - y|^2 / (r M))

    with r in `BANDWIDTH_FACTORS` and M the median squared distance between images of the two domains taken together.
    The means are over all pairs, an image with itself included (the biased estimator): what this adds to a class is a
    constant of its row or column, which `double_centre` removes, and a class of one image stays defined.

    Args:
        source_features: [N, D].
        source_labels: Class indices [N]; every class has an image.
        target_features: [M, D].
        target_labels: Class indices [M]; every class has an image.
        num_source_classes: n.
        num_target_classes: m.

    Returns:
        float64 [n, m], not negative (up to rounding).

    Reference:
        Gretton et al., 2012, A Kernel Two-Sample Test, Journal of Machine Learning Research 13.
    """
    source, target = np.asarray(source_features, np.float64), np.asarray(target_features, np.float64)
    scale = _median_squared_distance(np.concatenate([source, target]))
    source_rows = _class_rows(source_labels, num_source_classes)
    target_rows = _class_rows(target_labels, num_target_classes)
    within_source = [_mean_kernel(source[rows], source[rows], scale) for rows in source_rows]
    within_target = [_mean_kernel(target[rows], target[rows], scale) for rows in target_rows]
    # One block of kernel values a source class: memory stays at (images of a class) x M.
    averages = np.zeros((len(target), num_target_classes))
    for column, rows in enumerate(target_rows):
        averages[rows, column] = 1.0 / len(rows)
    between = np.stack([_kernel(source[rows], target, scale).mean(axis=0) @ averages for rows in source_rows])
    return np.array(within_source)[:, None] + np.array(within_target)[None] - 2.0 * between


def _class_rows(labels, num_classes):
    return [np.flatnonzero(labels == label) for label in range(num_classes)]


def _mean_kernel(x, y, scale):
    return _kernel(x, y, scale).mean()


def _kernel(x, y, scale):
    distances = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2.0 * x @ y.T
    distances = np.maximum(distances, 0.0) / scale
    return np.mean([np.exp(-distances / factor) for factor in BANDWIDTH_FACTORS], axis=0)


def _median_squared_distance(features):
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, len(features), (2, _MEDIAN_PAIRS))
    first, second = first[first != second], second[first != second]
    distances = ((features[first] - features[second]) ** 2).sum(1)
    median = float(np.median(distances)) if len(distances) else 0.0
    # Constant features have no scale; any does, as all distances are 0.
    return median or float(distances.mean() if len(distances) else 0.0) or 1.0
