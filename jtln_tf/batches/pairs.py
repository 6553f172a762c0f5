"""Two endless streams of training batches, one for each domain. Floor 1."""

import dataclasses
import functools

import tensorflow as tf

from jtln_tf.batches.augmentation import augment_images, draw_partners, mix
from jtln_tf.batches.shuffling import mix_seed, shuffled_rows
from jtln_tf.config import SIDES, AugmentationSpec, InputError, parse_augmentation
from jtln_tf.data import Domain

# Added to the seed of second views: beyond every seed of a stream, and below what tells the operations' keys apart.
_SECOND_VIEW = 2**31


def pair_domains(
    source: Domain | None,
    target: Domain | None,
    *,
    source_batch: int = 64,
    target_batch: int = 32,
    steps: int | None = None,
    first_step: int = 0,
    seed: int = 0,
    source_augmentation: str | tuple[str, ...] | AugmentationSpec = ("crop",),
    target_augmentation: str | tuple[str, ...] | AugmentationSpec = ("crop",),
    second_view: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Pairs two domains for training.

    Example:
        >>> import jtln_tf as jt
        >>> source, target = jt.load_domain("builtin:mnist5k"), jt.load_domain("builtin:optdigits?per_class=3")
        >>> images, labels = next(iter(jt.pair_domains(source, target, target_batch=30)))["target"]
        >>> images.shape.as_list(), labels.shape.as_list()
        ([30, 28, 28, 1], [30])

    Args:
        source: Source `Domain`, or None to train on the target alone.
        target: Target `Domain`, or None to train on the source alone.
        source_batch: Source images in a step, over all shards.
        target_batch: Target images in a step, over all shards.
        steps: Step at which the stream ends; None is never.
        first_step: Step of the first batch.
        seed: Seed of order and augmentation.
        source_augmentation: Policy of the source images, see `augment_images`; `mixup` mixes them with each other.
        target_augmentation: Policy of the target images.
        second_view: Whether a second augmented view of the same images follows the labels. `mixup` mixes both alike.
        shard: `(index, count)`: yields the index-th of `count` equal slices of each batch of the default, exactly.

    Returns:
        `tf.data.Dataset` of dicts with the keys `source` and `target` (only the given domains), each a pair of images
        [batch / count, H, W, C] in 0..255, uint8 if pixels only move, else float32, and int32 labels [batch / count];
        with `mixup`, float32 probabilities of the classes [batch / count, classes]. Batches are always full: if a pass
        over a domain ends inside a batch, the next pass begins.

    Raises:
        ValueError: If neither domain is given.
        InputError: If a policy does not fit, or a batch cannot be divided into shards.
    """
    options = {"seed": seed, "second_view": second_view, "shard": shard}
    streams = {
        "source": _make_stream("source", source, source_batch, source_augmentation, **options),
        "target": _make_stream("target", target, target_batch, target_augmentation, **options),
    }
    numbers = tf.data.Dataset.range(first_step, tf.int64.max if steps is None else steps)
    batches = {side: stream.batches(numbers) for side, stream in streams.items() if stream is not None}
    if not batches:
        raise ValueError("`source` or `target` must be a Domain. Received: neither.")
    return tf.data.Dataset.zip(batches).prefetch(tf.data.AUTOTUNE)


def count_passes(domain: Domain, batch: int, step: int) -> float:
    """Returns the number of passes over the training images of a domain after `step` steps."""
    return step * batch / len(domain.train)


def _make_stream(side, domain, batch, policy, *, seed, second_view, shard):
    """Returns the `_Stream` of one side, or None if it has no domain."""
    index, count = shard
    policy = parse_augmentation(policy, f"{side}_augmentation")
    if not 0 <= index < count:
        raise InputError(f"`shard` must be (index, count) with 0 <= index < count. Received: {shard}.")
    if domain is None:
        return None
    if batch % count:
        raise InputError(f"`{side}_batch` must be divisible by {count}, the number of shards. Received: {batch}.")
    return _Stream(domain, batch, mix_seed(seed, SIDES.index(side)), policy, second_view, shard)


@dataclasses.dataclass(frozen=True)
class _Stream:
    """The batches of one domain, or one shard of each."""

    domain: Domain
    batch_size: int
    seed: int
    policy: AugmentationSpec
    second_view: bool
    shard: tuple[int, int]

    def batches(self, steps):
        """Returns the `tf.data.Dataset` of the batches of some steps."""
        split = self.domain.train
        with tf.device("CPU:0"):
            # A GPU's memory is for the network.
            labels = tf.constant(split.labels)

        def finish(step, *views):
            positions = self._positions(step)
            rows, _ = self._find(step, positions)
            if split.holds_images:
                seeds = (self.seed, self.seed + _SECOND_VIEW) if self.second_view else (self.seed,)
                views = [self._augment(views[0], seed, step, positions) for seed in seeds]
            views, own_labels = self._mix(step, views, tf.gather(labels, rows))
            return views[0], own_labels, *views[1:]

        # Both views are made from the same images; a trunk's activations come in several views, and two are read.
        numbers = (0, 1) if self.second_view and not split.holds_images else (0,)
        read = [split.read(steps.map(functools.partial(self._entries, view=view))) for view in numbers]
        return tf.data.Dataset.zip(steps, *read).map(finish, num_parallel_calls=tf.data.AUTOTUNE)

    @property
    def _is_whole(self):
        return self.shard[1] == 1

    def _own_positions(self):
        """Returns the positions of the shard's images in the batch, int64 [b]."""
        index, count = self.shard
        size = self.batch_size // count
        return tf.range(index * size, (index + 1) * size, dtype=tf.int64)

    def _positions(self, step):
        """Returns the positions of all images that are read: the shard's own, then the partners they are mixed with."""
        own = self._own_positions()
        if self._is_whole or not self.policy.mixup:
            return own
        partners, _ = draw_partners(self.batch_size, self.seed, step, self.policy.mixup)
        return tf.concat([own, tf.gather(partners, own)], axis=0)

    def _find(self, step, positions):
        return shuffled_rows(step * self.batch_size + positions, len(self.domain.train), self.seed)

    def _entries(self, step, view):
        rows, passes = self._find(step, self._positions(step))
        split = self.domain.train
        return rows + (passes + view) % split.views * len(split)

    def _augment(self, images, seed, step, positions):
        return augment_images(images, seed, step, policy=self.policy, positions=positions, batch_size=self.batch_size)

    def _mix(self, step, views, labels):
        """Mixes the views of the shard's images with those of their partners, and the labels alike."""
        if not self.policy.mixup:
            return views, labels
        partners, weights = draw_partners(self.batch_size, self.seed, step, self.policy.mixup)
        if not self._is_whole:
            own = self._own_positions()
            weights = tf.gather(weights, own)
            # They were read behind the shard's own images.
            partners = tf.size(own) + tf.range(tf.size(own))
        labels = tf.one_hot(labels, self.domain.num_classes)
        return [mix(view, partners, weights) for view in views], mix(labels, partners, weights)
