"""The order of the examples: even, and different for every seed and pass."""

import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.batches.shuffling import shuffled_rows


@pytest.mark.parametrize("size", [1, 2, 5, 40, 1000])
def test_order_is_drawn_evenly(size, passes=300):
    rows, numbers = shuffled_rows(tf.range(size * passes, dtype=tf.int64), size, 0)
    np.testing.assert_array_equal(numbers, np.repeat(np.arange(passes), size))
    drawn = rows.numpy().reshape(passes, size)
    np.testing.assert_array_equal(np.sort(drawn), np.tile(np.arange(size), (passes, 1)))
    in_place = (drawn == np.arange(size)).sum(1)
    repeated = (drawn[1:] == drawn[:-1]).sum(1)
    in_sequence = (np.diff(drawn) == 1).sum(1)
    # An even permutation keeps one image in place on average, with variance 1; 5 standard deviations of the passes.
    for count, expected in ((in_place, 1), (repeated, 1), (in_sequence, (size - 1) / size)):
        assert abs(count.mean() - expected) < 5 / np.sqrt(passes)


def test_small_seeds_shuffle_from_the_first_pass_on_and_far_from_it():
    # The second half lies 10^13 passes on.
    places = tf.concat([tf.range(200, dtype=tf.int64) + first for first in (0, 2 * 10**15)], 0)
    orders = np.concatenate([shuffled_rows(places, 200, seed)[0].numpy().reshape(2, 200) for seed in range(4)])
    np.testing.assert_array_equal(np.sort(orders), np.tile(np.arange(200), (8, 1)))
    # 8 times Poisson(1): more than 25 has probability 1e-6.
    assert (orders == np.arange(200)).sum() <= 25
    assert (orders[1:] == orders[:-1]).sum() <= 25
