"""MK-MMD of Fisher vectors: features of images without a network, from where local descriptors lie in a mixture."""

import dataclasses
import math
import warnings

import numpy as np

from jtln_tf.config import SIDES, InputError
from jtln_tf.costs.metrics.mkmmd import mkmmd_cost
from jtln_tf.costs.numerics.labelled import join_batches
from jtln_tf.costs.numerics.whitening import whiten_sides

_SMALLEST_SIDE = 8
# Larger images are shrunk: at 128 pixels descriptors took over three times as long and were hardly better.
_LARGEST_SIDE = 64
# Most descriptors along a side of an image.
_GRID = 16
_COMPONENTS = 32
_MODES = 32
# The most that the mixture is learnt from.
_FIT_IMAGES = 500
_FIT_DESCRIPTORS = 20_000
_MOST_ITERATIONS = 50


@dataclasses.dataclass(frozen=True, eq=False)
class FisherEncoder:
    """Maps images to Fisher vectors; see `fit_fisher_encoder`.

    Attributes:
        projection: scikit-learn `PCA` of the local descriptors to length P.
        scale: Divisor of the projected descriptors.
        mixture: scikit-learn `GaussianMixture` of K modes of the scaled descriptors.
    """

    projection: object
    scale: float
    mixture: object

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns the Fisher vectors of uint8 images [B, H, W, C], float32 [B, 2 K P + K] of length 1."""
        from skimage.feature import fisher_vector

        means = self.mixture.means_
        vectors = np.empty((len(images), 2 * means.size + len(means)), np.float32)
        for row, image in enumerate(images):
            descriptors = self.projection.transform(_describe(image)) / self.scale
            vectors[row] = fisher_vector(descriptors, self.mixture, improved=True)
        return vectors


def fit_fisher_encoder(images: np.ndarray, seed: int = 0) -> FisherEncoder:
    """Learns a Fisher vector encoding of images: the principal components of their local descriptors, and a mixture.

    DAISY descriptors on a dense grid of the gray image hold the orientations of edges around a point. The Fisher vector
    of an image is the gradient of its descriptors' log-likelihood in the weights, means and variances of a mixture of
    Gaussians; then the signed root is taken and scaled to length 1. It needs no labels and no network, and sees neither
    colour nor where in the image an edge is.

    Args:
        images: uint8 [B, H, W, C] of both domains, C 1 (gray) or 3 (RGB); the shorter side has at least 8 pixels.
        seed: Seed of the draw of images and descriptors to learn from, and of the start of the mixture.

    Raises:
        InputError: If scikit-image is missing, or the images are too small.

    Reference:
        Perronnin, Sanchez, Mensink, 2010, Improving the Fisher Kernel for Large-Scale Image Classification, ECCV;
        Tola, Lepetit, Fua, 2010, DAISY, IEEE Transactions on Pattern Analysis and Machine Intelligence 32.
    """
    try:
        from skimage.feature import learn_gmm
    except ImportError as error:
        raise InputError("Fisher vectors need the package scikit-image: pip install scikit-image.") from error
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning

    if min(images.shape[1:3]) < _SMALLEST_SIDE:
        raise InputError(
            f"`images` must have at least {_SMALLEST_SIDE} pixels a side for Fisher vectors. "
            f"Received: {list(images.shape[1:3])}."
        )
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(images))[:_FIT_IMAGES])
    descriptors = np.concatenate([_describe(images[row]) for row in drawn])
    descriptors = descriptors[rng.permutation(len(descriptors))[:_FIT_DESCRIPTORS]]
    projection = PCA(min(_COMPONENTS, *descriptors.shape), svd_solver="covariance_eigh").fit(descriptors)
    projected = projection.transform(descriptors)
    # The mixture keeps variances above 1e-6, which must be small next to those of the descriptors. Descriptors have
    # length 1, so what varies by less than 1e-6 is rounding.
    scale = max(float(np.sqrt(projected.var(axis=0).mean())), 1e-6)
    distinct = len(np.unique(projected, axis=0))
    with warnings.catch_warnings():
        # Blank images have descriptors that are all alike, and the likelihood's last digits are not worth the time.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture = learn_gmm(
            projected / scale,
            n_modes=min(_MODES, distinct),
            gm_args={"covariance_type": "diag", "max_iter": _MOST_ITERATIONS, "random_state": seed},
        )
    return FisherEncoder(projection, scale, mixture)


def compute_fisher_mkmmd(evidence) -> tuple[np.ndarray, dict]:
    """Compares the Fisher vectors of the images by their MK-MMD; no network is needed."""
    shape = evidence.domains["source"].image_shape

    def restore(pixels):
        return np.rint(255 * pixels).astype(np.uint8).reshape(-1, *shape)

    encoder = fit_fisher_encoder(np.concatenate([restore(evidence.sample(side, None)[0]) for side in SIDES]))
    encoded = [
        join_batches((encoder(restore(pixels)), labels) for pixels, labels in evidence.stream(side, None))
        for side in SIDES
    ]
    sides, is_whitened = whiten_sides(encoded, evidence.cost.whitening)
    return mkmmd_cost(*sides), {**evidence.describe_images(), "features": "fisher", "whitened": is_whitened}


def _describe(image):
    from skimage.color import rgb2gray
    from skimage.feature import daisy
    from skimage.transform import rescale

    gray = rgb2gray(image) if image.shape[2] == 3 else image[..., 0] / 255.0
    if min(gray.shape) > _LARGEST_SIDE:
        gray = rescale(gray, _LARGEST_SIDE / min(gray.shape), anti_aliasing=True)
    side = min(gray.shape)
    radius = max(side // 6, 2)
    descriptors = daisy(gray, step=math.ceil((side - 2 * radius) / _GRID), radius=radius, rings=2)
    # A descriptor sums to 1, so its roots have length 1; their (Hellinger) distance does not come from few large bins.
    return np.sqrt(descriptors.reshape(-1, descriptors.shape[2]))
