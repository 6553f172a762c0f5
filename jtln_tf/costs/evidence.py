"""What the metrics may look at: the images of both domains through a model, and what is known of their classes."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np

from jtln_tf.config import SIDES, InputError
from jtln_tf.costs.config import CostConfig
from jtln_tf.data import Domain, read_class_table
from jtln_tf.features import FeatureCache, choose_views, extract_class_features, stream_class_features
from jtln_tf.network import domain_view


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """Two domains and the means to look at them.

    Attributes:
        domains: Source and target `Domain` by side.
        settings: `CostConfig`.
        features_model: Maps images in 0..255 to features [B, D], or None for the pixels.
        source_classifier: Maps images in 0..255 to probabilities of the source classes [B, n], or None.
        augment: What augments the images of a side, by side; see `build_cost_matrix`.
        cache: Folder of a `FeatureCache`, or empty.
        cache_key: By side, the text that `augment` follows.
        progress: Called with a title, the images done and all images, or None.
    """

    domains: dict[str, Domain]
    settings: CostConfig
    features_model: keras.Model | None
    source_classifier: keras.Model | None
    augment: dict[str, Callable]
    cache: str
    cache_key: dict[str, str]
    progress: Callable | None

    @functools.cached_property
    def source_features(self):
        """Features [N, D] of views of the source classes and their labels [N]."""
        return self._extract("source", self.features_model)

    @functools.cached_property
    def target_features(self):
        """Features [M, D] of views of the target classes and their labels [M]."""
        return self._extract("target", self.features_model)

    @functools.cached_property
    def source_votes(self):
        """Probabilities [M, n] that `source_classifier` gives views of the target classes, and their labels [M]."""
        return self._extract("target", self.source_classifier)

    def stream(self, side, model, views_per_class=None):
        """Yields `(features, labels)` batches of a domain; without a model, pixels in [0, 1]."""
        return stream_class_features(*self._request(side, model, views_per_class))

    def images(self, side, views_per_class=None):
        """Yields `(uint8 images [b, H, W, C], labels [b])` batches of a domain."""
        shape = self.domains[side].image_shape
        for pixels, labels in self.stream(side, None, views_per_class):
            yield np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8).reshape(-1, *shape), labels

    def count(self, side):
        """Number of views of a domain that the metrics look at."""
        labels, fill = self.domains[side].train.labels, side in self.augment
        return len(choose_views(labels, self.settings.images_per_class, fill=fill))

    @functools.cached_property
    def class_table(self):
        """What is known of the classes, dicts from column to text by class name, by side."""
        if self.settings.class_table:
            table = read_class_table(self.settings.class_table)
            return dict.fromkeys(SIDES, table)
        return {side: self.domains[side].class_table for side in SIDES}

    def _extract(self, side, model):
        return extract_class_features(*self._request(side, model, None))

    def _request(self, side, model, views_per_class):
        domain, views = self.domains[side], views_per_class or self.settings.images_per_class
        cache, total, done = None, None, 0
        # Without a fingerprint the features of these images cannot be told from those of others.
        if self.cache and domain.fingerprint:
            shape = list(domain.image_shape)
            augmented = self.cache_key.get(side, "")
            # A domain may stand on both sides, and what sees it there differ.
            cache = FeatureCache(self.cache, side=side, data=domain.fingerprint, shape=shape, augmented=augmented)

        def report(count):
            nonlocal total, done
            total, done = total or self.count(side), done + count
            self.progress(f"{side} images", done, total)

        progress = report if self.progress and not views_per_class else None
        model = model and domain_view(model, side)
        return model, domain.train, views, self.augment.get(side), 256, cache, progress


def class_rows(evidence, side, needed_by):
    """Returns the rows of the class table for the classes of a side, in their order.

    Raises:
        InputError: If a class has no row.
    """
    table, domain = evidence.class_table[side], evidence.domains[side]
    missing = [name for name in domain.class_names if name not in table]
    if missing:
        raise InputError(
            f"`cost_class_table` must have a row for each {side} class, as {needed_by} needs. Received: "
            f"{len(table)} rows, without {missing[0]!r}."
        )
    return [table[name] for name in domain.class_names]
