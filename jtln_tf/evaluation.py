"""A network and a split to accuracies. Floor 4."""

import dataclasses

import numpy as np

from jtln_tf.config import InputError
from jtln_tf.network import domain_view


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """How well one head names the classes of the images of a split.

    Attributes:
        class_names: Class names.
        confusion: Counts [classes, classes]: row is the true class, column the predicted one.
    """

    class_names: tuple[str, ...]
    confusion: np.ndarray

    @property
    def num_images(self):
        """Images that were looked at, each once."""
        return int(self.confusion.sum())

    @property
    def accuracy(self):
        """Share of the images named right, in [0, 1]."""
        return float(np.trace(self.confusion) / self.num_images)

    @property
    def class_accuracies(self):
        """Share of each class's images named right [classes]; NaN for a class without images."""
        counts = self.confusion.sum(axis=1)
        return np.divide(np.diag(self.confusion), counts, out=np.full(len(counts), np.nan), where=counts > 0)

    @property
    def macro_accuracy(self):
        """Mean of `class_accuracies` over the classes that have images, in [0, 1]."""
        return float(np.nanmean(self.class_accuracies))

    def to_json(self):
        """Returns the figures as JSON values: totals, a row for each class, and the confusion matrix."""
        counts = self.confusion.sum(axis=1)
        rows = [
            {"class": name, "images": int(count), "accuracy": None if count == 0 else float(accuracy)}
            for name, count, accuracy in zip(self.class_names, counts, self.class_accuracies, strict=True)
        ]
        return {
            "images": self.num_images,
            "accuracy": self.accuracy,
            "macro_accuracy": self.macro_accuracy,
            "classes": rows,
            "confusion": self.confusion.tolist(),
        }


def evaluate(network, domain, *, split="test", head="target", batch_size=256):
    """Evaluates one head of a network on a split of a domain; every image counts once.

    Args:
        network: What `build_network` returns, or a model that maps images in 0..255 to `{head: probabilities}`.
        domain: `Domain` whose classes the head predicts.
        split: `train`, `validation` or `test`.
        head: `source` or `target`.
        batch_size: Images in a forward pass.

    Returns:
        `Evaluation`.

    Raises:
        InputError: If the split has no images, or the head has another number of classes than the domain.
    """
    chosen = domain.split(split)
    if not len(chosen):
        raise InputError(f"`split` must have images. Received: {split!r} of {domain.name!r}, which has none.")
    view = domain_view(network, head)
    predicted = view.predict(chosen.dataset(batch_size), verbose=0)[head]
    if predicted.shape[1] != domain.num_classes:
        raise InputError(
            f"The {head} head must have the {domain.num_classes} classes of {domain.name!r}. "
            f"Received: {predicted.shape[1]}."
        )
    confusion = np.zeros((domain.num_classes, domain.num_classes), np.int64)
    np.add.at(confusion, (chosen.labels, predicted.argmax(axis=1)), 1)
    return Evaluation(domain.class_names, confusion)
