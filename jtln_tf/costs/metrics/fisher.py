"""Fisher vectors: images as features without a network, from how their local descriptors lie in a mixture model."""

import dataclasses
import math
import warnings

import numpy as np

from jtln_tf.config import InputError

_SMALLEST_SIDE = 8
# Larger images are made smaller: at 128 pixels descriptors found hardly better neighbours, and took over three times
# as long.
_LARGEST_SIDE = 64
# Descriptors along a side of an image, at most.
_GRID = 16
_COMPONENTS = 32
_MODES = 32
# What the mixture is learnt from, at most.
_FIT_IMAGES = 500
_FIT_DESCRIPTORS = 20_000
_MOST_ITERATIONS = 50


@dataclasses.dataclass(frozen=True, eq=False)
class FisherEncoder:
    """Images to Fisher vectors, as `fit_fisher_encoder` learnt to.

    Attributes:
        image_shape: Height and width of the images, pixels.
        projection: scikit-learn `PCA` of the local descriptors to length P.
        scale: What projected descriptors are divided by.
        mixture: scikit-learn `GaussianMixture` of K modes of these.
    """

    image_shape: tuple[int, int]
    projection: object
    scale: float
    mixture: object

    def __call__(self, images):
        """Returns the Fisher vectors, of length 1, float32 [B, 2 K P + K], of uint8 images [B, H, W, C].

        Raises:
            InputError: If the images are not uint8 of 1 or 3 channels, or of another size than those of the fit.
        """
        from skimage.feature import fisher_vector

        _check_images(images)
        if images.shape[1:3] != self.image_shape:
            raise InputError(
                f"`images` must have the size of those of the fit, {list(self.image_shape)}. "
                f"Received: {list(images.shape[1:3])}."
            )
        means = self.mixture.means_
        vectors = np.empty((len(images), 2 * means.size + len(means)), np.float32)
        for row, image in enumerate(images):
            descriptors = self.projection.transform(_describe(image)) / self.scale
            vectors[row] = fisher_vector(descriptors, self.mixture, improved=True)
        return vectors


def fit_fisher_encoder(images, seed=0):
    """Learns a Fisher vector encoding of images: the principal components of their local descriptors, and a mixture.

    DAISY descriptors on a dense grid of the gray image tell of the orientations of edges around a point; the Fisher
    vector of an image is the gradient of the log-likelihood of its descriptors in the weights, means and variances of a
    mixture of Gaussians, its signed root taken and scaled to length 1. It needs no labels and no network; it sees
    neither colour nor where in the image an edge is.

    Args:
        images: uint8 [B, H, W, C], C 1 (gray) or 3 (RGB), of both domains; the shorter side at least 8 pixels.
        seed: Of the draw of images and descriptors to learn from, and of the start of the mixture.

    Returns:
        `FisherEncoder`.

    Raises:
        InputError: If scikit-image is missing, or the images are not uint8, have other channels or are too small.

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

    _check_images(images)
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(images))[:_FIT_IMAGES])
    descriptors = np.concatenate([_describe(images[row]) for row in drawn])
    descriptors = descriptors[rng.permutation(len(descriptors))[:_FIT_DESCRIPTORS]]
    projection = PCA(min(_COMPONENTS, *descriptors.shape), svd_solver="covariance_eigh").fit(descriptors)
    projected = projection.transform(descriptors)
    # The mixture keeps variances above 1e-6, which must be little beside those of the descriptors. Descriptors have
    # length 1: what varies by less than 1e-6 is rounding.
    scale = max(float(np.sqrt(projected.var(axis=0).mean())), 1e-6)
    distinct = len(np.unique(projected, axis=0))
    with warnings.catch_warnings():
        # Descriptors may be nearly all alike, as those of blank images; and the last digits of the likelihood are not
        # worth further iterations.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture = learn_gmm(
            projected / scale,
            n_modes=min(_MODES, distinct),
            gm_args={"covariance_type": "diag", "max_iter": _MOST_ITERATIONS, "random_state": seed},
        )
    return FisherEncoder(images.shape[1:3], projection, scale, mixture)


def _check_images(images):
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or not len(images):
        raise InputError(
            "`images` must be uint8 of shape [B, H, W, C] with C 1 or 3. "
            f"Received: {images.dtype} {list(images.shape)}."
        )
    if min(images.shape[1:3]) < _SMALLEST_SIDE:
        raise InputError(
            f"`images` must have at least {_SMALLEST_SIDE} pixels a side for Fisher vectors. "
            f"Received: {list(images.shape[1:3])}."
        )


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
    # Their sum is 1, so that the length of the roots is; and the distance of roots (Hellinger) is not that of the few
    # largest bins alone.
    return np.sqrt(descriptors.reshape(-1, descriptors.shape[2]))
