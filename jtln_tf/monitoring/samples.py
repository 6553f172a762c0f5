"""A few images of a domain, the same ones for every seed, and what a network says of them."""

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.data import Domain
from jtln_tf.data.reading.split import Split

# In a forward pass: many large images would fill the memory.
_BATCH = 64


def sample_domain(domain: Domain, most: int) -> tuple[str, Split]:
    """Returns up to so many validation images or, if there are none, training images, and the name of their split.

    They are the first image of each class, then the second of each, and so on, in the order of the split.
    """
    name = "validation" if len(domain.validation) else "train"
    split = domain.split(name)
    order = np.argsort(split.labels, kind="stable")
    ranks = np.empty(len(split), np.int64)
    ranks[order] = np.arange(len(split)) - np.searchsorted(split.labels[order], split.labels[order])
    return name, split.take(np.sort(np.lexsort((split.labels, ranks))[:most]))


def look_at(model: keras.Model, split: Split) -> Iterator:
    """Yields what a model gives for the images of a split as they come, batch by batch."""
    for start in range(0, len(split), _BATCH):
        batch = split.take(range(start, min(start + _BATCH, len(split))))
        # Behind the images stand their augmented views, if there are any.
        images = np.asarray(batch.images.values)[: len(batch)] if batch.is_decoded else batch.decode(range(len(batch)))
        # Called directly: for so few images, tracing takes longer.
        yield model(tf.cast(images, tf.float32), training=False)
