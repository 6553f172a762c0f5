"""Wasserstein distance between Gaussians fitted to the features of classes."""

import numpy as np

from jtln_tf.config import InputError


def wasserstein_cost(
    source_features, source_labels, target_features, target_labels, *, num_source_classes, num_target_classes
):
    """Squared 2-Wasserstein distance of each source class to each target class, as Gaussians.

        W2(S, T)^2 = |m_S - m_T|^2 + tr C_S + tr C_T - 2 tr (C_S^1/2 C_T C_S^1/2)^1/2

    with the means m and the covariances C (divided by the number of images) of the features of a class. With
    C_S = A_S' A_S and C_T = A_T' A_T, where the rows of A are the centred images of a class over the root of their
    number, the last trace is the sum of the singular values of A_S A_T': no matrix is larger than
    min(images of a class, D) on a side, and no root is taken of a matrix that is singular, as a covariance of fewer
    images than features always is. A class of one image is a point: its covariance is 0.

    Time grows with the cube of min(images of a class, D), times n m.

    Args:
        source_features: [N, D], finite.
        source_labels: Class indices [N]; every class has an image.
        target_features: [M, D], finite.
        target_labels: Class indices [M]; every class has an image.
        num_source_classes: n.
        num_target_classes: m.

    Returns:
        float64 [n, m], not negative, in squared units of the features.

    Raises:
        InputError: If features are not finite or of two lengths, or a class has no image.

    Reference:
        Dowson and Landau, 1982, The Frechet Distance between Multivariate Normal Distributions, Journal of Multivariate
        Analysis 12; Olkin and Pukelsheim, 1982, The Distance between Two Random Vectors with Given Dispersion Matrices,
        Linear Algebra and its Applications 48.
    """
    source, target = np.asarray(source_features, np.float64), np.asarray(target_features, np.float64)
    if source.ndim != 2 or source.shape[1:] != target.shape[1:]:
        raise InputError(
            "`source_features` and `target_features` must have shapes [N, D] and [M, D]. "
            f"Received: {list(source.shape)} and {list(target.shape)}."
        )
    source_means, source_roots = _fit_gaussians(source, source_labels, num_source_classes, "source")
    target_means, target_roots = _fit_gaussians(target, target_labels, num_target_classes, "target")
    shifts = np.stack([((mean - target_means) ** 2).sum(axis=1) for mean in source_means])
    spreads = _traces(source_roots)[:, None] + _traces(target_roots)[None]
    # Classes that are the same differ by rounding, to either side.
    return np.maximum(shifts + spreads - 2.0 * _nuclear_norms(source_roots, target_roots), 0.0)


def _fit_gaussians(features, labels, num_classes, side):
    if not np.isfinite(features).all():
        raise InputError(f"`{side}_features` must be finite. Received: {features[~np.isfinite(features)][0]}.")
    means, roots = np.empty((num_classes, features.shape[1])), []
    for label in range(num_classes):
        rows = np.flatnonzero(np.asarray(labels) == label)
        if not len(rows):
            raise InputError(f"`{side}_labels` must name every class. Received: no image of class {label}.")
        means[label] = features[rows].mean(axis=0)
        root = (features[rows] - means[label]) / np.sqrt(len(rows))
        # R of A = Q R has the same A' A.
        roots.append(np.linalg.qr(root, mode="r") if len(root) > root.shape[1] else root)
    return means, roots


def _traces(roots):
    return np.array([(root**2).sum() for root in roots])


def _nuclear_norms(source_roots, target_roots):
    # One product of matrices and one call for the singular values, for all target classes of as many images: classes
    # are many and their matrices small.
    sizes = np.array([len(root) for root in target_roots])
    groups = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
    stacks = [np.concatenate([target_roots[column] for column in columns]).T for columns in groups]
    norms = np.empty((len(source_roots), len(target_roots)))
    for row, root in enumerate(source_roots):
        for columns, stack in zip(groups, stacks, strict=True):
            products = (root @ stack).reshape(len(root), len(columns), -1)
            norms[row, columns] = np.linalg.norm(products, "nuc", axis=(0, 2))
    return norms
