"""What the metrics may look at: the images of both domains through a model, and what is known of their classes."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import keras

from jtln_tf.config import SIDES, InputError
from jtln_tf.costs.config import CostConfig
from jtln_tf.costs.numerics.labelled import Labelled, join_batches
from jtln_tf.data.domain import Domain
from jtln_tf.data.sources.class_table import read_class_table
from jtln_tf.features.class_features import stream_class_features
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
        return [self.extract(side, self.features_model) for side in SIDES]

    def extract(self, side: str, model: keras.Model | None) -> Labelled:
        """Returns the outputs of a model for views of the classes of a domain, and their labels."""
        return join_batches(self.stream(side, model))

    def sample(self, side: str, model: keras.Model | None) -> Labelled:
        """Returns features and labels of a few views of each class; without a model, pixels in [0, 1]."""
        # One view does not show how views of a class differ.
        views = min(max(2, _SAMPLE_SIZE // self.domains[side].num_classes), self.cost.images_per_class)
        return join_batches(self._stream(side, model, views))

    def stream(self, side: str, model: keras.Model | None) -> Iterator[Labelled]:
        """Yields `(features, labels)` batches of a domain; without a model, pixels in [0, 1]."""
        total, done = self.count(side), 0
        for features, labels in self._stream(side, model, self.cost.images_per_class):
            done += len(labels)
            if self.progress:
                self.progress(f"{side} images", done, total)
            yield features, labels

    def _stream(self, side, model, views_per_class):
        domain, augment, cache = self.domains[side], self.augmentation.get(side), None
        sizes = [each.image_shape for each in self.domains.values()]
        if model is None and sizes[0] != sizes[1]:
            raise InputError(
                "`target` must have images of the shape of the source's, whose pixels they are compared with: "
                f"{list(sizes[0])}. Received: {list(sizes[1])}."
            )
        # Without a fingerprint, the features of these images cannot be told from those of others.
        if self.cache and domain.fingerprint:
            # The two sides may look at the same domain differently.
            dependencies = {"side": side, "data": domain.fingerprint, "shape": list(domain.image_shape)}
            cache = FeatureCache(self.cache, **dependencies, augmented=augment.key if augment else "")
        view = model and domain_view(model, side)
        return stream_class_features(view, domain.train, views_per_class, augment=augment, cache=cache)

    def count(self, side: str) -> int:
        """Returns the number of views of a domain that the metrics look at."""
        train, fill = self.domains[side].train, side in self.augmentation
        return len(choose_views(train.labels, self.cost.images_per_class, fill=fill, kept_views=train.views))

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
