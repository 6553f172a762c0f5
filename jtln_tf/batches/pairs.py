"""Two endless streams of training batches, one a domain."""

import tensorflow as tf

from jtln_tf.batches.augmentation import augment_images, mix_images
from jtln_tf.batches.shuffling import mix_seed, shuffled_rows
from jtln_tf.config import parse_augmentation


def pair_domains(
    source,
    target,
    *,
    source_batch=64,
    target_batch=32,
    steps=None,
    first_step=0,
    seed=0,
    source_augmentation=("crop",),
    target_augmentation=("crop",),
):
    """Pairs two domains for training.

    Args:
        source: Source `Domain`, or None to train on the target alone.
        target: Target `Domain`, or None to train on the source alone.
        source_batch: Source images in a step.
        target_batch: Target images in a step.
        steps: Step at which the stream ends; None is never.
        first_step: Step of the first batch.
        seed: Seed of order and augmentation.
        source_augmentation: Policy of the source images, as of `augment_images`; `mixup` mixes them with each other.
        target_augmentation: Policy of the target images.

    Returns:
        `tf.data.Dataset` of dicts with the keys `source` and `target` (only the given domains), each a pair of images
        [batch, H, W, C] in 0..255, uint8 where pixels are but moved, else float32, and int32 labels [batch]; with
        `mixup`, float32 probabilities of the classes [batch, classes]. Batches are always full: where a pass over a
        domain ends inside a batch, the next pass begins.

    Raises:
        ValueError: If neither domain is given.
        InputError: If a policy does not fit.
    """
    domains = {
        "source": (source, source_batch, (seed, 0), source_augmentation),
        "target": (target, target_batch, (seed, 1), target_augmentation),
    }
    mixups = {name: parse_augmentation(domain[-1], f"{name}_augmentation").mixup for name, domain in domains.items()}
    streams = {
        name: _stream(domain, batch, first_step, steps, stream_seed, policy, mixups[name])
        for name, (domain, batch, stream_seed, policy) in domains.items()
        if domain is not None
    }
    if not streams:
        raise ValueError("`source` or `target` must be a Domain. Received: neither.")
    return tf.data.Dataset.zip(streams).prefetch(tf.data.AUTOTUNE)


def count_passes(domain, batch, step):
    """Passes over the training images of a domain after `step` steps."""
    return step * batch / len(domain.train)


def _stream(domain, batch, first_step, steps, seed, policy, mixup):
    split = domain.train
    with tf.device("CPU:0"):
        # A GPU's memory is for the network.
        labels = tf.constant(split.labels)
    last_step = steps if steps is not None else tf.int64.max
    step_numbers = tf.data.Dataset.range(first_step, last_step)

    def find(step):
        rows, passes = shuffled_rows(step, batch, len(split), seed)
        return rows, rows + passes % split.views * len(split)

    def finish(step, images):
        own_labels = tf.gather(labels, find(step)[0])
        if split.holds_images:
            images = augment_images(images, mix_seed(*seed), step, policy=policy)
        if mixup:
            return mix_images(images, own_labels, domain.num_classes, mix_seed(*seed), step, alpha=mixup)
        return images, own_labels

    images = split.read(step_numbers.map(lambda step: find(step)[1]))
    return tf.data.Dataset.zip(step_numbers, images).map(finish, num_parallel_calls=tf.data.AUTOTUNE)
