"""Wasserstein distance between Gaussians fitted to the features of classes."""

import numpy as np

from jtln_tf.costs.numerics.labelled import Labelled, split_sides
from jtln_tf.costs.numerics.whitening import whiten_sides


def wasserstein_cost(source: Labelled, target: Labelled) -> np.ndarray:
    """Computes the squared 2-Wasserstein distance of each source class to each target class, as Gaussians.

        W2(S, T)^2 = |m_S - m_T|^2 + tr C_S + tr C_T - 2 tr (C_S^1/2 C_T C_S^1/2)^1/2

    with the means m and the covariances C (divided by the number of images) of the features of a class. With
    C_S = A_S' A_S and C_T = A_T' A_T, the rows of A being the centred images of a class over the root of their number,
    the last trace is the sum of the singular values of A_S A_T'. So no matrix is larger than min(images of a class, D)
    on a side, and no root is taken of a singular matrix, which a covariance of fewer images than features always is. A
    class of one image is a point: its covariance is 0.

    Time grows with the cube of min(images of a class, D), times n m.

    Args:
        source: Features [N, D] and class indices [N]; every class has an image.
        target: Features [M, D] and class indices [M]; every class has an image.

    Returns:
        float64 [n, m], not negative, in squared units of the features.

    Raises:
        InputError: If features are not finite or of two lengths, or a class has no image.

    Reference:
        Dowson and Landau, 1982, The Frechet Distance between Multivariate Normal Distributions, Journal of Multivariate
        Analysis 12; Olkin and Pukelsheim, 1982, The Distance between Two Random Vectors with Given Dispersion Matrices,
        Linear Algebra and its Applications 48.
    """
    (source_means, source_roots), (target_means, target_roots) = (
        _fit_gaussians(np.asarray(features, np.float64), rows) for features, rows in split_sides(source, target)
    )
    shifts = np.stack([((mean - target_means) ** 2).sum(axis=1) for mean in source_means])
    spreads = _traces(source_roots)[:, None] + _traces(target_roots)[None]
    # Equal classes differ by rounding, to either side.
    return np.maximum(shifts + spreads - 2.0 * _nuclear_norms(source_roots, target_roots), 0.0)


def compute_wasserstein(evidence) -> tuple[np.ndarray, dict]:
    """Compares the features of each class, as Gaussians."""
    sides, is_whitened = whiten_sides(evidence.features, evidence.cost.whitening)
    return wasserstein_cost(*sides), {**evidence.describe_images(), "whitened": is_whitened}


def _fit_gaussians(features, rows_by_class):
    means = np.stack([features[rows].mean(axis=0) for rows in rows_by_class])
    roots = [(features[rows] - mean) / np.sqrt(len(rows)) for rows, mean in zip(rows_by_class, means, strict=True)]
    # R of A = Q R has the same A' A.
    return means, [np.linalg.qr(root, mode="r") if len(root) > root.shape[1] else root for root in roots]


def _traces(roots):
    return np.array([(root**2).sum() for root in roots])


def _nuclear_norms(source_roots, target_roots):
    # Classes are many and their matrices small: target classes of as many images share one product and one SVD call.
    sizes = np.array([len(root) for root in target_roots])
    groups = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
    stacks = [np.concatenate([target_roots[column] for column in columns]).T for columns in groups]
    norms = np.empty((len(source_roots), len(target_roots)))
    for row, root in enumerate(source_roots):
        for columns, stack in zip(groups, stacks, strict=True):
            products = (root @ stack).reshape(len(root), len(columns), -1)
            norms[row, columns] = np.linalg.norm(products, "nuc", axis=(0, 2))
    return norms
