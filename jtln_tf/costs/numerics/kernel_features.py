"""MK-MMD in time linear in the images: random features of the kernel, and their sums over classes."""

from collections.abc import Iterable

import numpy as np

from jtln_tf.costs.numerics.kernel import BANDWIDTH_FACTORS
from jtln_tf.costs.numerics.labelled import Labelled

# On photographs of 41 x 40 classes with 1,280 features, the double-centred values have a rank correlation of 0.999 with
# the exact ones; with half of the frequencies 0.998, with a quarter 0.995.
NUM_FREQUENCIES = 2_000


def draw_frequencies(scale: float, dimension: int, num_frequencies: int = NUM_FREQUENCIES, seed: int = 0) -> np.ndarray:
    """Draws frequencies W, float32 [R, D], of random Fourier features of the kernel of `mkmmd_cost`.

        k(x, y) = mean over r of exp(-|x - y|^2 / (r M)) = E cos(w (x - y)),   w ~ N(0, 2 / (r M)), r drawn evenly

    Each bandwidth gets the same number of frequencies. Their directions are orthogonal as far as the dimension allows,
    and their lengths are drawn like those of Gaussian vectors, which keeps the estimate unbiased and lowers its
    variance. Two draws with the same arguments give the same features, so that parts embedded apart fit together.

    Args:
        scale: Unit M of squared distances, above 0; see `median_squared_distance`.
        dimension: D.
        num_frequencies: R, a multiple of the number of bandwidths, 5.
        seed: Seed of the draw.

    Reference:
        Rahimi and Recht, 2007, Random Features for Large-Scale Kernel Machines, NIPS 20; Yu et al., 2016, Orthogonal
        Random Features, arXiv:1610.09072.
    """
    rng, groups = np.random.default_rng(seed), []
    for start in range(0, num_frequencies, dimension):
        size = min(dimension, num_frequencies - start)
        basis = np.linalg.qr(rng.standard_normal((dimension, size)))[0].T
        groups.append(basis * np.sqrt(rng.chisquare(dimension, (size, 1))))
    # In turns, so that frequencies of different bandwidths are orthogonal too.
    factors = np.tile(BANDWIDTH_FACTORS, num_frequencies // len(BANDWIDTH_FACTORS))
    return (np.concatenate(groups) * np.sqrt(2.0 / (factors * scale))[:, None]).astype(np.float32)


def embed(features: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Returns z(x) = sqrt(1 / R) [cos(W x), sin(W x)] of each image, float32 [B, 2R], for features [B, D].

    The vectors have length 1, and their inner products estimate the kernel without bias.
    """
    phases = np.asarray(features, np.float32) @ frequencies.T
    return np.concatenate([np.cos(phases), np.sin(phases)], axis=1) / np.float32(np.sqrt(len(frequencies)))


def sum_embeddings(
    batches: Iterable[Labelled], frequencies: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sum of the embedded images of each class, float64 [num_classes, 2R], and their number."""
    sums, counts = np.zeros((num_classes, 2 * len(frequencies))), np.zeros(num_classes, np.int64)
    for features, labels in batches:
        embedded = embed(features, frequencies)
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            sums[label] += embedded[rows].sum(axis=0, dtype=np.float64)
            counts[label] += len(rows)
    return sums, counts


def mkmmd_of_sums(source: tuple[np.ndarray, np.ndarray], target: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Computes the squared multi-kernel MMD, float64 [n, m], from what `sum_embeddings` returns of each side.

    This is `mkmmd_cost` with the inner product of the embedded images in place of the kernel. An image's product with
    itself is 1, so the mean over pairs of different images among n follows from the mean image alone:
    (n |mean|^2 - 1) / (n - 1). A class of one image gets 1, as there.
    """
    source_means, within_source = _means_and_within(*source)
    target_means, within_target = _means_and_within(*target)
    return within_source[:, None] + within_target - 2.0 * source_means @ target_means.T


def _means_and_within(sums, counts):
    means = sums / counts[:, None]
    within = (counts * (means**2).sum(axis=1) - 1.0) / np.maximum(counts - 1, 1)
    return means, np.where(counts == 1, 1.0, within)
