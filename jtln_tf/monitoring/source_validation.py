"""How the source head does on images that it is not trained on, at next to no cost."""

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.data import Domain
from jtln_tf.network import domain_view

# Of the images that an epoch trains on: a training image takes as long as about three others.
_SHARE = 0.01
_MOST_IMAGES, _LEAST_IMAGES, _BATCH = 256, 16, 256
_LEAST_PROBABILITY = 1e-12


class SourceValidation:
    """Accuracy and loss of a network's source head on a fixed sample of the source's validation images.

    Nothing is chosen by them. The sample is small, so that looking at it takes under 1 % of the training time.
    """

    def __init__(self, network: keras.Model, source: Domain, images_per_epoch: int):
        """Takes what the network reads of the source, and the source images that an epoch trains on."""
        split = source.validation
        wanted = int(min(_MOST_IMAGES, max(_LEAST_IMAGES, _SHARE * images_per_epoch)))
        rows = np.linspace(0, len(split) - 1, min(wanted, len(split))).astype(int) if len(split) else []
        self._split, self._view = split.take(rows), domain_view(network, "source")
        self._kept = None

    def measure(self) -> dict[str, float]:
        """Returns `source_validation_accuracy` in [0, 1] and `source_validation_loss`, or nothing without images."""
        if not len(self._split):
            return {}
        if self._kept is None:
            split = self._split
            images = np.asarray(split.images.values) if split.is_decoded else split.decode(range(len(split)))
            self._kept = [tf.cast(images[start : start + _BATCH], tf.float32) for start in range(0, len(split), _BATCH)]
        # Called directly: for so few images, tracing takes longer.
        found = [self._view(images, training=False)["source"] for images in self._kept]
        probabilities, labels = np.concatenate([np.asarray(one) for one in found]), self._split.labels
        own = np.maximum(probabilities[np.arange(len(labels)), labels], _LEAST_PROBABILITY)
        hits = probabilities.argmax(axis=1) == labels
        return {"source_validation_accuracy": float(hits.mean()), "source_validation_loss": float(-np.log(own).mean())}
