"""The order of the examples: a keyed permutation of their indices.

Every batch is a function of the seed and its step alone. Any step of any epoch can therefore be reached at once, and a
resumed run sees the batches that it would have seen.
"""

import tensorflow as tf


def mix_seed(seed: int, stream: int) -> int:
    """Returns one whole number for each (seed, stream), so that a run's two streams are not shuffled alike."""
    return (seed * 2 + stream) % (2**31)


def shuffled_rows(places: tf.Tensor, num_examples: int, seed: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns which examples stand at some places of an endless stream, int64 [b], and the pass that each belongs to.

    `places`, int64 [b], count from 0; `seed` is what `mix_seed` returns.
    """
    passes, within = places // num_examples, places % num_examples
    # SplitMix64: the hash of a hashed seed plus a multiple of this number. The permutation reads 3 words of 32 bits as
    # its key; keys with few bits set, or 4 rounds, would leave most indices near their place.
    first = _hash(tf.constant(seed, tf.uint64)) + tf.cast(passes + 1, tf.uint64) * 0x9E3779B97F4A7C15
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
