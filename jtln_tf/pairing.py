"""Two endless streams of training batches, one a domain. Floor 1.

Every batch is a function of the seed and its step alone: the order is a keyed permutation of the indices, so that any
step of any epoch can be reached at once and a resumed run sees the batches that it would have seen.
"""

import tensorflow as tf


def pair_domains(
    source,
    target,
    *,
    source_batch=64,
    target_batch=32,
    steps=None,
    first_step=0,
    seed=0,
    random_crop=True,
    random_flip=False,
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
        random_crop: Shift each image by up to an eighth of its side, the border mirrored.
        random_flip: Mirror each image left to right with probability one half.

    Returns:
        `tf.data.Dataset` of dicts with the keys `source` and `target` (only the given domains), each a pair of float32
        images [batch, H, W, C] in 0..255 and int32 labels [batch]. Batches are always full: where a pass over a domain
        ends inside a batch, the next pass begins.

    Raises:
        ValueError: If neither domain is given.
    """
    domains = {"source": (source, source_batch, 0), "target": (target, target_batch, 1)}
    streams = {
        name: _stream(domain.train, batch, first_step, steps, (seed, index), random_crop, random_flip)
        for name, (domain, batch, index) in domains.items()
        if domain is not None
    }
    if not streams:
        raise ValueError("`source` or `target` must be a Domain. Received: neither.")
    return tf.data.Dataset.zip(streams).prefetch(tf.data.AUTOTUNE)


def count_passes(domain, batch, step):
    """Passes over the training images of a domain after `step` steps."""
    return step * batch / len(domain.train)


def _stream(split, batch, first_step, steps, seed, random_crop, random_flip):
    with tf.device("CPU:0"):
        # A GPU's memory is for the network.
        labels = tf.constant(split.labels)
        images_or_paths = tf.constant(split.images if split.is_decoded else split.images.tolist())
    last_step = steps if steps is not None else tf.int64.max
    step_numbers = tf.data.Dataset.range(first_step, last_step)

    def finish(step, images, rows):
        return augment_images(images, _mix(*seed), step, random_crop=random_crop, random_flip=random_flip), tf.gather(
            labels, rows
        )

    if split.is_decoded:

        def read(step):
            rows = _shuffled_rows(step, batch, len(split), seed)
            return finish(step, tf.gather(images_or_paths, rows), rows)

        # Deterministic order, and one batch at a time: gathering is cheap next to a training step.
        return step_numbers.map(read, num_parallel_calls=1)
    rows = step_numbers.flat_map(
        lambda step: tf.data.Dataset.from_tensor_slices(_shuffled_rows(step, batch, len(split), seed))
    )
    images = rows.map(lambda row: (split.decode(images_or_paths[row]), row), num_parallel_calls=tf.data.AUTOTUNE)
    batches = tf.data.Dataset.zip(step_numbers, images.batch(batch, drop_remainder=True))
    return batches.map(lambda step, pair: finish(step, *pair))


def _shuffled_rows(step, batch, num_examples, seed):
    positions = step * batch + tf.range(batch, dtype=tf.int64)
    passes, within = positions // num_examples, positions % num_examples
    # SplitMix64: the hash of a hashed seed plus a multiple of this number. The permutation reads 3 words of 32 bits as
    # its key, and keys with few bits set, or 4 rounds, leave most indices near their place.
    first = _hash(tf.constant(_mix(*seed), tf.uint64)) + tf.cast(passes + 1, tf.uint64) * 0x9E3779B97F4A7C15
    words = (_hash(first), tf.bitwise.right_shift(_hash(first), 32), _hash(_hash(first)))
    keys = tf.stack([tf.cast(word, tf.uint32) for word in words], axis=1)
    # tf.random.experimental.index_shuffle has no choice of rounds.
    return tf.raw_ops.RandomIndexShuffle(index=within, seed=keys, max_index=num_examples - 1, rounds=8)


def _hash(numbers):
    """Spreads whole numbers (uint64) over all bits: the finalizer of SplitMix64 (Steele et al., OOPSLA 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = tf.bitwise.bitwise_xor(numbers, tf.bitwise.right_shift(numbers, shift)) * factor
    return tf.bitwise.bitwise_xor(numbers, tf.bitwise.right_shift(numbers, 31))


def _mix(seed, stream):
    # One integer a (seed, stream): the two streams of a run must not be shuffled alike.
    return (seed * 2 + stream) % (2**31)


def augment_images(images, seed, step=0, *, random_crop=True, random_flip=False):
    """Augments images; the result depends on the arguments alone.

    Args:
        images: Images [B, H, W, C] in 0..255.
        seed: Whole number.
        step: Whole number: the same images look different in every step.
        random_crop: Shift each image by up to an eighth of its side, the border mirrored.
        random_flip: Mirror each image left to right with probability one half.

    Returns:
        float32 images [B, H, W, C].
    """
    images = tf.cast(images, tf.float32)
    key = tf.stack([tf.cast(seed, tf.int64), tf.cast(step, tf.int64)])
    if random_crop:
        images = _shift(images, key)
    if random_flip:
        batch = tf.shape(images)[0]
        flips = tf.random.stateless_uniform([batch, 1, 1, 1], key + [2**32, 0]) < 0.5
        images = tf.where(flips, tf.reverse(images, [2]), images)
    return images


def _shift(images, key):
    """Moves each image [B, H, W, C] by whole pixels, drawn evenly from an eighth of the side each way."""
    batch, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    for axis, side in ((1, height), (2, width)):
        reach = side // 8
        moves = tf.random.stateless_uniform([batch, 1], key + [axis * 2**33, 0], -reach, reach + 1, tf.int32)
        index = tf.abs(moves + tf.range(side)[None])
        mirrored = tf.where(index >= side, 2 * (side - 1) - index, index)
        images = tf.gather(images, mirrored, axis=axis, batch_dims=1)
    return images
