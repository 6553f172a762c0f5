"""Evaluates a network on one split of a domain."""

import dataclasses
import typing

import keras
import numpy as np

from jtln_tf.config import InputError, NonFiniteLossError
from jtln_tf.data import Domain
from jtln_tf.distribution import predict, replicas_of
from jtln_tf.network import domain_view

# Mistakes that are kept, the most confident ones.
MOST_MISTAKES = 24
_LEAST_PROBABILITY = 1e-12
# As in the paper of the calibration error.
_BINS = 15
_TOP = 5


class Mistake(typing.NamedTuple):
    """An image whose class was not predicted.

    Attributes:
        image: Position in the split.
        label: True class.
        predicted: Predicted class.
        probability: Probability of the predicted class.
    """

    image: int
    label: int
    predicted: int
    probability: float


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Counts of true and predicted classes of the images of a split.

    Attributes:
        class_names: Class names.
        confusion: Counts [classes, classes]; the row is the true class, the column the predicted one.
        loss: Mean cross-entropy (negative log-likelihood), or None if it is not known.
        top5_accuracy: Share of the images whose class is among the five most probable ones; None if it is not known, or
            there are no more than five.
        calibration_error: Expected calibration error in [0, 1], or None if it is not known: how far the probability of
            the predicted class is from the accuracy, in 15 bins of equal width (Guo et al., 2017, On calibration of
            modern neural networks, arXiv:1706.04599, eq. 3).
        mistakes: The most confident mistakes, up to `MOST_MISTAKES`, the most confident one first; of several workers,
            only of this one's images.
    """

    class_names: tuple[str, ...]
    confusion: np.ndarray
    loss: float | None = None
    mistakes: tuple[Mistake, ...] = ()
    top5_accuracy: float | None = None
    calibration_error: float | None = None

    @property
    def num_images(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of the images whose class is predicted, in [0, 1]."""
        return float(np.trace(self.confusion) / self.num_images)

    @property
    def class_accuracies(self) -> np.ndarray:
        """Accuracy of the images of each class [classes]; NaN for a class without images."""
        counts = self.confusion.sum(axis=1)
        return np.divide(np.diag(self.confusion), counts, out=np.full(len(counts), np.nan), where=counts > 0)

    @property
    def macro_accuracy(self) -> float:
        """Mean of `class_accuracies` over the classes that have images, in [0, 1]."""
        return float(np.nanmean(self.class_accuracies))

    def to_json(self) -> dict[str, object]:
        """Returns JSON values: totals, a row for each class, the confusion matrix, and the worst mistakes."""
        counts = self.confusion.sum(axis=1)
        rows = [
            {"class": name, "images": int(count), "accuracy": None if count == 0 else float(accuracy)}
            for name, count, accuracy in zip(self.class_names, counts, self.class_accuracies, strict=True)
        ]
        return {
            "images": self.num_images,
            "accuracy": self.accuracy,
            "macro_accuracy": self.macro_accuracy,
            "loss": self.loss,
            "top5_accuracy": self.top5_accuracy,
            "calibration_error": self.calibration_error,
            "classes": rows,
            "confusion": self.confusion.tolist(),
            "mistakes": [mistake._asdict() for mistake in self.mistakes],
        }


def evaluate(
    network: keras.Model, domain: Domain, *, split: str = "test", head: str = "target", batch_size: int = 256
) -> Evaluation:
    """Evaluates one head of a network on a split of a domain; every image counts once.

    Args:
        network: What `build_network` returns, or a model that maps images in 0..255 to `{head: probabilities}`.
        domain: `Domain` whose classes the head predicts.
        split: `train`, `validation` or `test`.
        head: `source` or `target`.
        batch_size: Images in a forward pass.

    Returns:
        `Evaluation`, with the accuracy and the confusion matrix.

    Raises:
        InputError: If the split has no images, or the head does not have as many classes as the domain.
        NonFiniteLossError: If a probability is NaN.

    Examples:
        >>> import jtln_tf as jt
        >>> target = jt.load_domain("builtin:optdigits?per_class=3")
        >>> network = jt.build_network("small_cnn", 10, target.num_classes, image_shape=target.image_shape)
        >>> result = jt.evaluate(network, target)
        >>> 0 <= result.accuracy <= 1, result.confusion.shape
        (True, (10, 10))
    """
    chosen = domain.split(split)
    if not len(chosen):
        raise InputError(f"`split` must have images. Received: {split!r} of {domain.name!r}, which has none.")
    replicas = replicas_of(network)
    with replicas.scope():
        view = domain_view(network, head)
    if replicas.num_workers > 1:
        chosen = chosen.take(range(replicas.worker, len(chosen), replicas.num_workers))
    confusion = np.zeros((domain.num_classes, domain.num_classes), np.int64)
    sums, mistakes = np.zeros(2), ()
    bins = np.zeros((2, _BINS))
    if len(chosen):
        batches = (predict(view, images)[head] for images, _ in chosen.batches(batch_size))
        predicted = np.concatenate([*batches])
        if predicted.shape[1] != domain.num_classes:
            raise InputError(
                f"The {head} head must have the {domain.num_classes} classes of {domain.name!r}. "
                f"Received: {predicted.shape[1]}."
            )
        require_finite(predicted, f"the {split} images of {domain.name!r}")
        np.add.at(confusion, (chosen.labels, predicted.argmax(axis=1)), 1)
        sums, bins = _sum_scores(chosen.labels, predicted), _sum_bins(chosen.labels, predicted)
        mistakes = _find_mistakes(chosen.labels, predicted, replicas)
    confusion, sums, bins = replicas.sum(confusion), replicas.sum(sums), replicas.sum(bins)
    loss, in_top = (float(value) for value in sums / confusion.sum())
    return Evaluation(
        domain.class_names,
        confusion,
        loss,
        mistakes,
        in_top if domain.num_classes > _TOP else None,
        float(np.abs(bins[0] - bins[1]).sum() / confusion.sum()),
    )


def _sum_scores(labels, probabilities):
    """Returns the sum of the losses, and the number of images whose class is among the most probable ones."""
    own = probabilities[np.arange(len(labels)), labels]
    ranks = (probabilities > own[:, None]).sum(axis=1)
    return np.array([-np.log(np.maximum(own, _LEAST_PROBABILITY)).sum(), (ranks < _TOP).sum()], np.float64)


def _sum_bins(labels, probabilities):
    """Returns the sums of the highest probabilities, and of right predictions, by bin of that probability [2, bins]."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    # Bins are open below and closed above, as in the paper.
    places = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    return np.stack([np.bincount(places, weights, _BINS) for weights in (confidence, right)])


def _find_mistakes(labels, probabilities, replicas):
    """Returns the most confident mistakes among this worker's images."""
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_MISTAKES]
    places = worst * replicas.num_workers + replicas.worker
    return tuple(
        Mistake(int(place), int(labels[row]), int(predicted[row]), float(confidence[row]))
        for place, row in zip(places, worst, strict=True)
    )


def require_finite(probabilities: np.ndarray, images: str) -> None:
    """Raises `NonFiniteLossError`, with the words for the images, unless all probabilities [B, n] are finite."""
    num_broken = np.count_nonzero(~np.isfinite(probabilities).all(axis=1))
    if num_broken:
        raise NonFiniteLossError(
            f"The probabilities of a network must be finite. Received: NaN for {num_broken} of {images}. Hint: a lower "
            "--head_learning_rate and --backbone_learning_rate, or --clip_norm=1."
        )
