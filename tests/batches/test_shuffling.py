"""The order of the examples: even, and different for every seed and pass."""

import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.batches.shuffling import shuffled_rows


def orders(size, passes, seed=0):
    """The order in which each pass sees `size` images, [passes, size]."""
    rows, numbers = shuffled_rows(tf.range(size * passes, dtype=tf.int64), size, seed)
    np.testing.assert_array_equal(numbers, np.repeat(np.arange(passes), size))
    return rows.numpy().reshape(passes, size)


@pytest.mark.parametrize("size", [1, 2, 5, 40, 1000])
def test_order_is_drawn_evenly(size):
    drawn = orders(size, 300)
    np.testing.assert_array_equal(np.sort(drawn), np.tile(np.arange(size), (300, 1)))
    in_place = (drawn == np.arange(size)).sum(1)
    repeated = (drawn[1:] == drawn[:-1]).sum(1)
    in_sequence = (np.diff(drawn) == 1).sum(1)
    # An even permutation keeps one image in place on average, with variance 1; 5 standard deviations of 300 passes.
    for count, expected in ((in_place, 1), (repeated, 1), (in_sequence, (size - 1) / size)):
        assert abs(count.mean() - expected) < 5 / np.sqrt(300)


def test_small_seeds_shuffle_from_the_first_pass_on():
    first_passes = np.stack([orders(200, 1, seed=seed)[0] for seed in range(8)])
    # 8 times Poisson(1): more than 25 has probability 1e-6.
    assert (first_passes == np.arange(200)).sum() <= 25
    assert (first_passes[1:] == first_passes[:-1]).sum() <= 25


def test_the_first_step_may_be_far():
    far, _ = shuffled_rows(tf.range(10**15, 10**15 + 10, dtype=tf.int64), 10, 0)
    np.testing.assert_array_equal(np.sort(far), np.arange(10))
