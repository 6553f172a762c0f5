"""Wasserstein distance between Gaussians fitted to the features of classes."""

import numpy as np

from jtln_tf.costs.numerics.labelled import Labelled, split_classes
from jtln_tf.costs.numerics.whitening import whiten_sides


def wasserstein_cost(source: Labelled, target: Labelled) -> np.ndarray:
    """Computes the squared 2-Wasserstein distance of each source class to each target class, as Gaussians.

        W2(S, T)^2 = |m_S - m_T|^2 + tr C_S + tr C_T - 2 tr (C_S^1/2 C_T C_S^1/2)^1/2

    with the means m and the covariances C (divided by the number of images) of the features of a class. With
    C_S = A_S' A_S and C_T = A_T' A_T, the rows of A being the centred images of a class over the root of their number,
    the last trace is the sum of the singular values of A_S A_T'. So no matrix is larger than min(images of a class, D)
    on a side, and no root is taken of a singular matrix, which a covariance of fewer images than features always is. A
    class of one image is a point: its covariance is 0.

    Takes features [N, D] and class indices [N] of each side, with an image of every class. Returns float64 [n, m], not
    negative, in squared units of the features. Time grows with the cube of min(images of a class, D), times n m.

    Reference:
        Dowson and Landau, 1982, The Frechet Distance between Multivariate Normal Distributions, Journal of Multivariate
        Analysis 12; Olkin and Pukelsheim, 1982, The Distance between Two Random Vectors with Given Dispersion Matrices,
        Linear Algebra and its Applications 48.
    """
    (source_means, source_roots), (target_means, target_roots) = (
        zip(*map(_fit_gaussian, split_classes(side)), strict=True) for side in (source, target)
    )
    # One product for all target classes, as many small ones take longer.
    all_roots, ends = np.concatenate(target_roots), np.cumsum([len(root) for root in target_roots])
    target_spreads = [(root**2).sum() for root in target_roots]
    rows = []
    for mean, root in zip(source_means, source_roots, strict=True):
        products = np.split(root @ all_roots.T, ends[:-1], axis=1)
        overlaps = np.array([np.linalg.norm(product, "nuc") for product in products])
        shifts = ((np.stack(target_means) - mean) ** 2).sum(axis=1)
        rows.append(shifts + (root**2).sum() + target_spreads - 2.0 * overlaps)
    # Equal classes differ by rounding, to either side.
    return np.maximum(rows, 0.0)


def _fit_gaussian(images):
    mean = images.mean(axis=0, dtype=np.float64)
    root = (images - mean) / np.sqrt(len(images))
    # R of A = Q R has the same A' A.
    return mean, np.linalg.qr(root, mode="r") if len(root) > root.shape[1] else root


def compute_wasserstein(evidence) -> tuple[np.ndarray, dict]:
    """Compares the features of each class, as Gaussians."""
    sides, is_whitened = whiten_sides(evidence.features, evidence.cost.whitening)
    return wasserstein_cost(*sides), {**evidence.describe_images(), "whitened": is_whitened}
