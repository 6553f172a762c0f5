"""Endless streams of training batches of both domains."""

from jtln_tf.batches.augmentation import augment_each, augment_images
from jtln_tf.batches.pairs import count_passes, pair_domains
