"""Two endless streams of training batches, one for each domain."""

import dataclasses
import functools

import tensorflow as tf

from jtln_tf.batches.augmentation import augment_images, draw_partners, mix
from jtln_tf.batches.shuffling import mix_seed, shuffled_rows
from jtln_tf.config import SIDES, AugmentationSpec, DataConfig, InputError, parse_augmentation
from jtln_tf.data import Domain

# Added to the seed of second views: beyond every seed of a stream, and below what tells the operations' keys apart.
_SECOND_VIEW = 2**31


def pair_domains(
    source: Domain | None,
    target: Domain | None,
    *,
    source_batch: int = DataConfig.source_batch,
    target_batch: int = DataConfig.target_batch,
    steps: int | None = None,
    first_step: int = 0,
    seed: int = 0,
    source_augmentation: str | tuple[str, ...] | AugmentationSpec = ("crop",),
    target_augmentation: str | tuple[str, ...] | AugmentationSpec = ("crop",),
    second_view: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Pairs two domains for training.

    Examples:
        >>> import jtln_tf as jt
        >>> source, target = jt.load_domain("builtin:mnist5k"), jt.load_domain("builtin:optdigits?per_class=3")
        >>> images, labels = next(iter(jt.pair_domains(source, target, target_batch=30)))["target"]
        >>> images.shape.as_list(), labels.shape.as_list()
        ([30, 28, 28, 1], [30])

    Args:
        source: Source domain, or None to train on the target alone.
        target: Target domain, or None to train on the source alone.
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
        [batch / count, H, W, C] in 0..255, uint8 if pixels only move, else float32, and int32 labels [batch / count],
        or with `mixup` float32 class probabilities. Batches are full: a pass that ends inside one begins anew there.

    Raises:
        InputError: If neither domain is given, a policy does not fit, or a batch cannot be divided into shards.
    """
    index, count = shard
    if not 0 <= index < count:
        raise InputError(f"`shard` must be (index, count) with 0 <= index < count. Received: {shard}.")
    numbers = tf.data.Dataset.range(first_step, tf.int64.max if steps is None else steps)
    sides = ((source, source_batch, source_augmentation), (target, target_batch, target_augmentation))
    batches = {}
    for number, (side, (domain, batch, policy)) in enumerate(zip(SIDES, sides, strict=True)):
        policy = parse_augmentation(policy, f"{side}_augmentation")
        if domain is None:
            continue
        if batch % count:
            raise InputError(f"`{side}_batch` must be divisible by {count}, the number of shards. Received: {batch}.")
        batches[side] = _Stream(domain, batch, mix_seed(seed, number), policy, second_view, shard).batches(numbers)
    if not batches:
        raise InputError("`source` or `target` must be a Domain. Received: neither.")
    return tf.data.Dataset.zip(batches).prefetch(tf.data.AUTOTUNE)


def count_passes(domain: Domain, batch: int, step: int) -> float:
    """Returns the number of passes over the training images of a domain after `step` steps."""
    return step * batch / len(domain.train)


@dataclasses.dataclass(frozen=True)
class _Stream:
    """The batches of one domain, or one shard of each."""

    domain: Domain
    batch_size: int
    seed: int
    policy: AugmentationSpec
    second_view: bool
    shard: tuple[int, int]

    # AutoGraph would read all functions that are called in here, and find nothing to convert.
    @tf.autograph.experimental.do_not_convert
    def batches(self, steps):
        """Returns the `tf.data.Dataset` of the batches of some steps."""
        split = self.domain.train
        with tf.device("CPU:0"):
            # A GPU's memory is for the network.
            all_labels = tf.constant(split.labels)

        def find(step, positions):
            return shuffled_rows(step * self.batch_size + positions, len(split), self.seed)

        def entries(step, view):
            rows, passes = find(step, self._choose(step)[0])
            return rows + (passes + view) % split.views * len(split)

        def finish(step, *views):
            positions, partners, weights = self._choose(step)
            labels = tf.gather(all_labels, find(step, positions)[0])
            if split.holds_images:
                part = {"policy": self.policy, "positions": positions, "batch_size": self.batch_size}
                seeds = (self.seed, self.seed + _SECOND_VIEW) if self.second_view else (self.seed,)
                views = [augment_images(views[0], seed, step, **part) for seed in seeds]
            if self.policy.mixup:
                views = [mix(view, partners, weights) for view in views]
                labels = mix(tf.one_hot(labels, self.domain.num_classes), partners, weights)
            return views[0], labels, *views[1:]

        # Both views are made from the same images; a trunk's activations come in several views, and two are read.
        numbers = (0, 1) if self.second_view and not split.holds_images else (0,)
        read = [split.read(steps.map(functools.partial(entries, view=view))) for view in numbers]
        return tf.data.Dataset.zip(steps, *read).map(finish, num_parallel_calls=tf.data.AUTOTUNE)

    def _choose(self, step):
        """Returns the positions in the batch of the images to read, each one's partner among them, and its weight."""
        index, count = self.shard
        size = self.batch_size // count
        own = tf.range(index * size, (index + 1) * size, dtype=tf.int64)
        if not self.policy.mixup:
            return own, None, None
        partners, weights = draw_partners(self.batch_size, self.seed, step, self.policy.mixup)
        if count == 1:
            return own, partners, weights
        # The partners are read behind the shard's own images.
        return tf.concat([own, tf.gather(partners, own)], axis=0), size + tf.range(size), tf.gather(weights, own)
