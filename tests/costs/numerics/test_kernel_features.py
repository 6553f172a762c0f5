import numpy as np
import pytest

from jtln_tf.costs.numerics.kernel_features import draw_frequencies, embed, mkmmd_of_sums, sum_embeddings
from tests import reference
from tests.costs.conftest import draw_features


def test_the_kernel_is_estimated_without_bias():
    features, _ = draw_features([3, 3], dimension=4, spread=1.0)
    squares = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    expected = np.mean([np.exp(-squares / (factor * 5.0)) for factor in (0.25, 0.5, 1, 2, 4)], axis=0)
    # Fewer frequencies than dimensions of a bandwidth, and more.
    for num_frequencies in (10, 35):
        draws = [embed(features, draw_frequencies(5.0, 4, num_frequencies, seed)) for seed in range(600)]
        products = np.array([z @ z.T for z in draws])
        error, deviation = products.mean(axis=0) - expected, products.std(axis=0) / np.sqrt(600)
        assert np.all(np.abs(error) <= 4 * deviation + 1e-6)


def test_frequencies_are_orthogonal_in_groups():
    frequencies = draw_frequencies(1.0, 8, 50)
    for start in range(0, 50, 8):
        group = frequencies[start : start + 8] / np.linalg.norm(frequencies[start : start + 8], axis=1, keepdims=True)
        np.testing.assert_allclose(group @ group.T, np.eye(len(group)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("counts", [([4, 7, 5], [6, 3]), ([1, 4, 1], [2, 1])])
def test_agrees_with_the_double_loops(counts):
    source, target = draw_features(counts[0]), draw_features(counts[1], seed=1)
    frequencies = draw_frequencies(2.0, 3, 50)
    expected = reference.mmd_of_kernel(
        lambda x, y: np.cos(np.float64(frequencies) @ (x - y)).mean(), *source, *target, 3, 2
    )
    batches = [(source[0][row : row + 2], source[1][row : row + 2]) for row in range(0, len(source[1]), 2)]
    cost = mkmmd_of_sums(sum_embeddings(batches, frequencies, 3), sum_embeddings([target], frequencies, 2))
    # Embedded in float32, with phases of up to 20.
    np.testing.assert_allclose(cost, expected, rtol=0, atol=1e-5)
