"""What the metrics may look at: the images of both domains through a model, and what is known of their classes."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import keras
import numpy as np

from jtln_tf.config import SIDES, InputError
from jtln_tf.costs.config import CostConfig
from jtln_tf.costs.numerics.labelled import Labelled
from jtln_tf.data.domain import Domain
from jtln_tf.data.sources.class_table import read_class_table
from jtln_tf.features.class_features import extract_class_features, stream_class_features
from jtln_tf.features.feature_cache import FeatureCache
from jtln_tf.features.views import ViewAugmentation, choose_views
from jtln_tf.network import domain_view

# Images of a domain in a sample that a scale is estimated from, or descriptors are learnt from.
_SAMPLE_SIZE = 2000


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """Two domains and the means to look at them.

    Attributes:
        domains: Source and target `Domain` by side.
        cost: `CostConfig`.
        features_model: Maps images in 0..255 to features [B, D], or None for the pixels.
        source_classifier: Maps images in 0..255 to probabilities of the source classes [B, n], or None.
        augmentation: `ViewAugmentation` of each side whose images are augmented.
        cache: Folder of a `FeatureCache`, or empty.
        progress: Called with a title, the images done and all images, or None.
    """

    domains: dict[str, Domain]
    cost: CostConfig
    features_model: keras.Model | None
    source_classifier: keras.Model | None
    augmentation: dict[str, ViewAugmentation]
    cache: str
    progress: Callable[[str, int, int], None] | None

    @functools.cached_property
    def features(self) -> list[Labelled]:
        """Features [N, D] of views of the classes and their labels [N], of the source and of the target."""
        return [extract_class_features(**self._request(side, self.features_model)) for side in SIDES]

    @functools.cached_property
    def source_votes(self) -> Labelled:
        """Probabilities [M, n] that `source_classifier` gives views of the target classes, and their labels [M]."""
        return extract_class_features(**self._request("target", self.source_classifier))

    def stream(self, side: str, model: keras.Model | None) -> Iterator[Labelled]:
        """Yields `(features, labels)` batches of a domain; without a model, pixels in [0, 1]."""
        return stream_class_features(**self._request(side, model))

    def sample(self, side: str, model: keras.Model | None) -> Labelled:
        """Returns features and labels of a few views of each class; without a model, pixels in [0, 1]."""
        # One view does not show how views of a class differ.
        views = min(max(2, _SAMPLE_SIZE // self.domains[side].num_classes), self.cost.images_per_class)
        return extract_class_features(**{**self._request(side, model), "views_per_class": views, "progress": None})

    def images(self, side: str) -> Iterator[Labelled]:
        """Yields `(uint8 images [b, H, W, C], labels [b])` batches of a domain."""
        for pixels, labels in self.stream(side, None):
            yield self._to_images(side, pixels), labels

    def sample_images(self, side: str) -> np.ndarray:
        """Returns a few uint8 images [B, H, W, C] of each class."""
        return self._to_images(side, self.sample(side, None)[0])

    def count(self, side: str) -> int:
        """Returns the number of views of a domain that the metrics look at."""
        labels, fill = self.domains[side].train.labels, side in self.augmentation
        return len(choose_views(labels, self.cost.images_per_class, fill=fill))

    def describe_images(self) -> dict:
        """Returns how the images are looked at, as JSON values."""
        return {
            "images_per_class": self.cost.images_per_class,
            "features": "pixels" if self.features_model is None else self.features_model.name,
            "augmented": bool(self.augmentation),
        }

    @functools.cached_property
    def class_table(self) -> dict[str, dict[str, dict[str, str]]]:
        """What is known of the classes: dicts from column to text by class name, by side."""
        if self.cost.class_table:
            return dict.fromkeys(SIDES, read_class_table(self.cost.class_table))
        return {side: domain.class_table for side, domain in self.domains.items()}

    def class_rows(self, side: str, needed_by: str) -> dict[str, dict[str, str]]:
        """Returns the rows of the class table for the classes of a side, in their order.

        Raises:
            InputError: If a class has no row; `needed_by` is the argument that the message names.
        """
        table, names = self.class_table[side], self.domains[side].class_names
        missing = [name for name in names if name not in table]
        if missing:
            raise InputError(
                f"`cost_class_table` must have a row for each {side} class, as {needed_by} needs. Received: "
                f"{len(table)} rows, without {missing[0]!r}."
            )
        return {name: table[name] for name in names}

    def _to_images(self, side, pixels):
        images = np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8)
        return images.reshape(-1, *self.domains[side].image_shape)

    def _request(self, side, model):
        domain, augmentation = self.domains[side], self.augmentation.get(side)
        cache, total, done = None, None, 0
        # Without a fingerprint, the features of these images cannot be told from those of others.
        if self.cache and domain.fingerprint:
            cache = FeatureCache(
                self.cache,
                # The two sides may look at the same domain differently.
                side=side,
                data=domain.fingerprint,
                shape=list(domain.image_shape),
                augmented=augmentation.key if augmentation else "",
            )

        def report(count):
            nonlocal total, done
            total, done = total or self.count(side), done + count
            self.progress(f"{side} images", done, total)

        return {
            "model": model and domain_view(model, side),
            "split": domain.train,
            "views_per_class": self.cost.images_per_class,
            "augment": augmentation,
            "cache": cache,
            "progress": report if self.progress else None,
        }
