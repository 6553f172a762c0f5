"""First weights of neck and heads, each computed in one pass over the features of the training images."""

import keras
import numpy as np
import scipy.linalg

from jtln_tf.data import Domain
from jtln_tf.features.stream import stream_features
from jtln_tf.network import domain_view, features_before_neck, features_model, find_neck

# Share of the covariance that is replaced by its mean variance: .3 to .7 differ by less than a point on five pairs of
# data sets, on images that no table is made with.
SHRINKAGE = 0.5


def gather_class_sums(network: keras.Model, domains: dict[str, Domain]) -> dict[str, "ClassSums"]:
    """Returns, by side, what a neck begins with: sums of the normalized features of the training images before it.

    Args:
        network: Network with a neck, or the part of it that is trained.
        domains: What the network reads, `Domain` by side.

    Raises:
        InputError: If a feature is not finite.
    """
    raw = features_before_neck(network)
    sums = {side: ClassSums(domain.num_classes, raw.output.shape[-1]) for side, domain in domains.items()}
    for side, domain in domains.items():
        for features, labels in stream_features(domain_view(raw, side), domain.train):
            sums[side].add(to_unit(features), labels)
    return sums


def start_neck(
    network: keras.Model, sums: dict[str, "ClassSums"], *, is_whitened: bool, shrinkage: float = SHRINKAGE
) -> None:
    """Sets the means of the neck and, if it whitens, its map.

    Args:
        network: Network with a neck, or the part of it that is trained.
        sums: What `gather_class_sums` returns.
        is_whitened: Whether features of one class shall vary alike in all directions; else the map only scales features
            to unit length on average.
        shrinkage: Share of the covariance, in 0..1, that is replaced by its mean variance; 1 does not whiten.
    """
    total = sums["source"].covariance()
    kernel = fit_map(_pool_within(sums.values()), shrinkage) if is_whitened else np.eye(len(total))
    # Of the length of features, so that a step of the optimizer changes every map by as much.
    # The map is triangular; transposed, arrays have the order that BLAS takes without a copy.
    length = np.sqrt(np.vdot(scipy.linalg.blas.dtrmm(1.0, kernel.T, total.T, lower=1).T, kernel))
    means = (one.class_means().mean(axis=0) for one in sums.values())
    find_neck(network).set_start(*means, kernel / max(length, 1e-12))


def imprint_heads(network: keras.Model, domains: dict[str, Domain]) -> None:
    """Sets the weights of each class, in both heads, to the mean of its normalized features.

    Reference:
        Qi, Brown, Lowe, 2018, Low-shot learning with imprinted weights, arXiv:1712.07136.
    """
    for side, domain in domains.items():
        sums = ClassSums(domain.num_classes, features_model(network).output.shape[-1], has_products=False)
        for features, labels in stream_features(domain_view(features_model(network), side), domain.train):
            sums.add(features, labels)
        network.get_layer(f"{side}_logits").set_classes(to_unit(sums.class_means()))


def to_unit(vectors: np.ndarray) -> np.ndarray:
    """Returns vectors [N, D] with length 1; zeros stay zeros."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def fit_map(covariance: np.ndarray, shrinkage: float) -> np.ndarray:
    """Returns the map [D, D], to be multiplied from the right, after which a shrunk covariance [D, D] is the identity.

    Reference:
        Hatch, Kajarekar, Stolcke, 2006, Within-class covariance normalization, Interspeech.
    """
    width = len(covariance)
    mean_variance = np.trace(covariance) / width
    if mean_variance <= 0:
        return np.eye(width)
    shrunk = (1 - shrinkage) * covariance
    shrunk.flat[:: width + 1] += shrinkage * mean_variance
    # Any root will do, because the heads look at angles alone; this one takes a tenth of the time of eigenvectors.
    root = scipy.linalg.cholesky(shrunk.T, lower=True, overwrite_a=True, check_finite=False)
    return scipy.linalg.lapack.dtrtri(root, lower=1, overwrite_c=1)[0].T


def _pool_within(domains):
    """Returns the covariance around the mean of each class, over all images of several `ClassSums` [D, D].

    Few labelled target images already show directions in which classes of the source do not vary. Zeros if no class has
    two images.
    """
    freedom = sum(one.within_freedom() for one in domains)
    return sum(one.within_products() for one in domains) / max(freedom, 1)


class ClassSums:
    """Sums of features by class, and of their products, float64, gathered batch by batch."""

    def __init__(self, num_classes: int, width: int, has_products: bool = True):
        """Makes empty sums of features [b, width]; without products, it knows means alone."""
        self._counts, self._sums = np.zeros(num_classes), np.zeros((num_classes, width))
        self._products = np.zeros((width, width)) if has_products else None
        self._origin = None

    def add(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Adds features [b, D] with class indices [b]."""
        features = features.astype(np.float64)
        if self._origin is None:
            # Products of features far from zero would lose the digits of their differences.
            self._origin = features.mean(axis=0)
        features -= self._origin
        # A product takes a tenth of the time of `np.add.at`.
        members = (labels[:, None] == np.arange(len(self._counts))).astype(np.float64)
        self._counts += members.sum(axis=0)
        self._sums += members.T @ features
        if self._products is not None:
            self._products += features.T @ features

    def class_means(self) -> np.ndarray:
        """Returns the mean of each class [classes, D]."""
        return self._sums / self._counts[:, None] + self._origin

    def covariance(self) -> np.ndarray:
        """Returns the covariance around the mean of all [D, D]."""
        mean = self._sums.sum(axis=0) / self._counts.sum()
        return self._products / self._counts.sum() - np.outer(mean, mean)

    def within_products(self) -> np.ndarray:
        """Returns the sum of products of the differences to the mean of each class [D, D]."""
        return self._products - (self._sums / self._counts[:, None]).T @ self._sums

    def within_freedom(self) -> float:
        """Returns the number of images less that of classes."""
        return self._counts.sum() - len(self._counts)
