import numpy as np
import pytest

from jtln_tf.config import InputError
from jtln_tf.costs.numerics.kernel_features import ClassEmbeddings, draw_kernel_features, mkmmd_of_embeddings
from tests import reference
from tests.costs.conftest import draw_features

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


def embed(kernel_features, features, labels, batch=1000):
    embeddings = ClassEmbeddings(labels.max() + 1, kernel_features.width)
    for start in range(0, len(labels), batch):
        rows = slice(start, start + batch)
        embeddings.add(kernel_features(features[rows]), labels[rows])
    return embeddings


def linear_cost(source, target, kernel_features):
    return mkmmd_of_embeddings(embed(kernel_features, *source), embed(kernel_features, *target, batch=2))


def test_the_kernel_is_estimated_without_bias():
    features, _ = draw_features([3, 3], dimension=4, spread=1.0)
    squares = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    expected = np.mean([np.exp(-squares / (factor * 5.0)) for factor in FACTORS], axis=0)
    # Fewer frequencies than dimensions of a bandwidth, and more.
    for num_frequencies in (10, 35):
        draws = [draw_kernel_features(5.0, 4, num_frequencies, seed)(features) for seed in range(600)]
        products = np.array([z @ z.T for z in draws])
        error, deviation = products.mean(axis=0) - expected, products.std(axis=0) / np.sqrt(600)
        assert np.all(np.abs(error) <= 4 * deviation + 1e-6)


def test_frequencies_are_orthogonal_in_groups_and_divided_evenly_over_the_bandwidths():
    frequencies = draw_kernel_features(1.0, 8, 50).frequencies
    for start in range(0, 50, 8):
        group = frequencies[start : start + 8] / np.linalg.norm(frequencies[start : start + 8], axis=1, keepdims=True)
        np.testing.assert_allclose(group @ group.T, np.eye(len(group)), rtol=0, atol=1e-6)
    squares = np.sort((draw_kernel_features(3.0, 500, 100).frequencies ** 2).sum(axis=1)).reshape(5, 20)
    # A chi-squared of 500 degrees of freedom is within 30 % of its mean.
    expected = 2 * 500 / (np.array(FACTORS)[::-1, None] * 3.0)
    np.testing.assert_allclose(squares, np.tile(expected, 20), rtol=0.3)


@pytest.mark.parametrize("counts", [([4, 7, 5], [6, 3]), ([1, 4, 1], [2, 1])])
def test_agrees_with_the_double_loops(counts):
    source, target = draw_features(counts[0]), draw_features(counts[1], seed=1)
    features = draw_kernel_features(2.0, 3, 50)
    frequencies = np.float64(features.frequencies)
    expected = reference.mmd_of_kernel(lambda x, y: np.cos(frequencies @ (x - y)).mean(), *source, *target, 3, 2)
    # Embedded in float32, with phases of up to 20.
    np.testing.assert_allclose(linear_cost(source, target, features), expected, rtol=0, atol=1e-5)


def test_a_single_image_still_counts_among_millions():
    embeddings = ClassEmbeddings(1, 1)
    for value in (2.0**25, 1.0):
        embeddings.add(np.float32([[value]]), np.array([0]))
    # float32 would end at 2^25.
    np.testing.assert_array_equal(embeddings.sums, [[2**25 + 1]])


def test_input_that_does_not_fit():
    features = draw_kernel_features(1.0, 3, 10)
    partial = ClassEmbeddings(4, 20)
    partial.add(features(np.zeros((3, 3))), np.array([0, 1, 3]))
    with pytest.raises(InputError, match="`source` must have images of each class. Received: none of class 2"):
        mkmmd_of_embeddings(partial, partial)
    with pytest.raises(InputError, match="`num_frequencies` must be a multiple of 5. Received: 12"):
        draw_kernel_features(1.0, 3, 12)
    with pytest.raises(InputError, match=r"`features` must have shape \[N, 3\]. Received: \[2, 4\]"):
        features(np.zeros((2, 4)))
