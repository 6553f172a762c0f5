"""The order of the examples: a keyed permutation of their indices.

Every batch is a function of the seed and its step alone, so that any step of any epoch can be reached at once and a
resumed run sees the batches that it would have seen.
"""

import tensorflow as tf


def mix_seed(seed, stream):
    """Returns one whole number a (seed, stream): the two streams of a run must not be shuffled alike."""
    return (seed * 2 + stream) % (2**31)


def shuffled_rows(step, batch, num_examples, seed):
    """Returns which examples are in a batch.

    Args:
        step: Step of the batch, scalar int64 tensor.
        batch: Examples in a batch.
        num_examples: Examples in all.
        seed: Two whole numbers: the seed of the run, and the number of the stream.

    Returns:
        Positions and the numbers of their passes over the examples, both int64 [batch]. Where a pass ends inside the
        batch, the next one begins.
    """
    positions = step * batch + tf.range(batch, dtype=tf.int64)
    passes, within = positions // num_examples, positions % num_examples
    # SplitMix64: the hash of a hashed seed plus a multiple of this number. The permutation reads 3 words of 32 bits as
    # its key, and keys with few bits set, or 4 rounds, leave most indices near their place.
    first = _hash(tf.constant(mix_seed(*seed), tf.uint64)) + tf.cast(passes + 1, tf.uint64) * 0x9E3779B97F4A7C15
    words = (_hash(first), tf.bitwise.right_shift(_hash(first), 32), _hash(_hash(first)))
    keys = tf.stack([tf.cast(word, tf.uint32) for word in words], axis=1)
    # tf.random.experimental.index_shuffle has no choice of rounds.
    rows = tf.raw_ops.RandomIndexShuffle(index=within, seed=keys, max_index=num_examples - 1, rounds=8)
    return rows, passes


def _hash(numbers):
    """Spreads whole numbers (uint64) over all bits: the finalizer of SplitMix64 (Steele et al., OOPSLA 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = tf.bitwise.bitwise_xor(numbers, tf.bitwise.right_shift(numbers, shift)) * factor
    return tf.bitwise.bitwise_xor(numbers, tf.bitwise.right_shift(numbers, 31))
