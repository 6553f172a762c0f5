import numpy as np
import pytest
import reference
from scipy.stats import spearmanr

from jtln_tf.config import InputError
from jtln_tf.costs import double_centre, dual_centre, mkmmd, mkmmd_cost, scale
from jtln_tf.costs.metrics.kernel_features import (
    ClassEmbeddings,
    KernelFeatures,
    draw_kernel_features,
    mkmmd_of_embeddings,
)
from jtln_tf.costs.metrics.mkmmd import median_squared_distance

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


def draw_features(counts, dimension=3, seed=0, spread=0.5):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    features = rng.normal(size=(len(counts), dimension))[labels] + spread * rng.normal(size=(len(labels), dimension))
    return features, labels


def cost_of(source, target, **options):
    n, m = source[1].max() + 1, target[1].max() + 1
    return mkmmd_cost(*source, *target, num_source_classes=n, num_target_classes=m, **options)


def reference_of(source, target, scale=None):
    return reference.mkmmd(*source, *target, source[1].max() + 1, target[1].max() + 1, scale)


def embed(kernel_features, features, labels):
    embeddings = ClassEmbeddings(labels.max() + 1, kernel_features.width)
    embeddings.add(kernel_features(features), labels)
    return embeddings


def linear_cost_of(source, target, kernel_features):
    return mkmmd_of_embeddings(embed(kernel_features, *source), embed(kernel_features, *target))


# The second has classes of one image on both sides.
@pytest.mark.parametrize("counts", [([4, 7, 5], [6, 3]), ([1, 4, 1], [2, 1])])
@pytest.mark.parametrize("scale", [0.3, 7.0])
def test_agrees_with_the_double_loops(counts, scale):
    source, target = draw_features(counts[0]), draw_features(counts[1], seed=1)
    cost = cost_of(source, target, scale=scale)
    assert cost.shape == (3, 2) and cost.dtype == np.float64
    np.testing.assert_allclose(cost, reference_of(source, target, scale), rtol=0, atol=1e-13)


def test_scale_is_the_median_of_both_domains():
    source, target = draw_features([4, 7, 5]), draw_features([6, 3], seed=1)
    cost, expected = cost_of(source, target), reference_of(source, target)
    # The median is that of 20,000 drawn pairs, not of all: values move by 2 % of the largest.
    np.testing.assert_allclose(cost, expected, rtol=0, atol=0.02 * expected.max())
    scale = median_squared_distance(np.concatenate([source[0], target[0]]))
    np.testing.assert_array_equal(cost, cost_of(source, target, scale=scale))


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_blocks_change_nothing(monkeypatch, block):
    source, target = draw_features([4, 1, 7, 5]), draw_features([6, 3, 1], seed=1)
    expected = cost_of(source, target)
    monkeypatch.setattr(mkmmd, "_BLOCK_IMAGES", block)
    np.testing.assert_allclose(cost_of(source, target), expected, rtol=0, atol=1e-13)


def test_order_of_the_images_changes_nothing():
    (features, labels), target = draw_features([4, 7, 5]), draw_features([6, 3], seed=1)
    order = np.random.default_rng(2).permutation(len(labels))
    shuffled = cost_of((features[order], labels[order]), target, scale=1.0)
    np.testing.assert_allclose(shuffled, cost_of((features, labels), target, scale=1.0), rtol=0, atol=1e-13)


def test_sides_may_be_swapped():
    source, target = draw_features([4, 7, 5]), draw_features([6, 3], seed=1)
    one, other = cost_of(source, target, scale=1.0), cost_of(target, source, scale=1.0)
    np.testing.assert_allclose(one, other.T, rtol=0, atol=1e-13)


def test_centred_it_is_the_biased_estimate():
    (source, source_labels), (target, target_labels) = draw_features([4, 7, 5]), draw_features([6, 3], seed=1)

    def mean_kernel(x, y):
        squares = ((x[:, None] - y[None]) ** 2).sum(axis=2)
        return np.mean([np.exp(-squares / factor).mean() for factor in FACTORS])

    parts = [source[source_labels == label] for label in range(3)], [target[target_labels == label] for label in (0, 1)]
    biased = [[mean_kernel(s, s) + mean_kernel(t, t) - 2 * mean_kernel(s, t) for t in parts[1]] for s in parts[0]]
    cost = cost_of((source, source_labels), (target, target_labels), scale=1.0)
    np.testing.assert_allclose(double_centre(cost), double_centre(np.array(biased)), rtol=0, atol=1e-13)
    assert np.all(cost < biased)


def test_mean_over_many_draws_is_zero_where_the_distributions_are_the_same():
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(60), 4)
    source, target = rng.normal(size=(2, 240, 3))
    cost = cost_of((source, labels), (target, labels), scale=6.0)
    # Rows and columns share images: the error of the mean is that of 60 independent classes, not of 3,600 pairs. The
    # biased estimate would be 0.2 too high.
    assert abs(cost.mean()) < 4 * cost.std() / np.sqrt(60) < 0.1
    assert cost.min() < 0


def test_one_image_on_each_side():
    source, target = (np.ones((1, 2)), np.zeros(1, int)), (np.zeros((1, 2)), np.zeros(1, int))
    # The only distance is the scale.
    expected = 2 - 2 * np.mean(np.exp(-1 / np.array(FACTORS)))
    np.testing.assert_allclose(cost_of(source, target), [[expected]], rtol=1e-13)


def test_a_domain_to_itself_is_nearest_to_itself():
    source = draw_features([4, 7, 5])
    cost = cost_of(source, source)
    np.testing.assert_allclose(cost, cost.T, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(cost.argmin(axis=1), range(3))
    # All pairs of the class and its copy include each image with itself, those within do not.
    assert np.all(np.diag(cost) < 0)


def test_constant_features_cost_nothing():
    labels = np.arange(6) % 2
    source, target = (np.full((6, 3), 0.7), labels), (np.full((4, 3), 0.7), labels[:4])
    cost = cost_of(source, target)
    np.testing.assert_allclose(cost, 0, atol=1e-13)
    np.testing.assert_array_equal(scale(dual_centre(cost)), 0)


def test_where_most_images_are_the_same():
    images, labels = np.zeros((10, 2)), np.arange(10) % 2
    images[9] = 1.0
    scale = median_squared_distance(np.concatenate([images, images]))
    expected = reference_of((images, labels), (images, labels), scale)
    cost = cost_of((images, labels), (images, labels))
    np.testing.assert_allclose(cost, expected, rtol=0, atol=1e-13)
    assert cost[1, 1] < -0.01


@pytest.mark.parametrize("unit", [2.0**-60, 1024.0, 2.0**100])
def test_unit_of_the_features_is_not_seen(unit):
    source, target = draw_features([4, 7]), draw_features([6, 3], seed=1)
    scaled = [((unit * features).astype("float32"), labels) for features, labels in (source, target)]
    plain = [(features.astype("float32"), labels) for features, labels in (source, target)]
    # A power of 2 changes no digit.
    np.testing.assert_allclose(cost_of(*scaled), cost_of(*plain), rtol=1e-12)


def test_distance_of_all_images_from_the_origin_is_not_seen():
    source, target = draw_features([4, 7]), draw_features([6, 3], seed=1)
    moved = [(features + 1e6, labels) for features, labels in (source, target)]
    # float64 holds features of 1e6 to 1e-10.
    np.testing.assert_allclose(cost_of(*moved), cost_of(source, target), rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_labels": [0, 0, 2]}, "`source_labels` must have images of each class. Received: none of class 1"),
        ({"target_labels": [0, 0]}, "`target_labels` must have images of each class. Received: none of class 1"),
        ({"source_labels": [0, 1, 3]}, "`source_labels` must be from 0 to 2. Received: 0 to 3"),
        ({"target_labels": [-1, 1]}, "`target_labels` must be from 0 to 1. Received: -1 to 1"),
        ({"source_labels": [0, 1]}, r"`source_labels` \[images\]. Received: \[3, 4\] and \[2\]"),
        ({"target_features": np.zeros(2)}, r"shape \[images, dimensions\], .* Received: \[2\] and \[2\]"),
        ({"target_features": np.zeros((2, 5))}, "the 4 dimensions of `source_features`. Received: 5"),
        ({"target_features": [[0, 1, 2, 3], [0, 0, np.nan, 0]]}, "must be finite. Received: nan in image 1"),
        ({"scale": 0.0}, "`scale` must be a finite number above 0. Received: 0.0"),
        ({"scale": np.inf}, "`scale` must be a finite number above 0. Received: inf"),
    ],
)
def test_input_that_does_not_fit(changes, message):
    arguments = {
        "source_features": np.eye(3, 4),
        "source_labels": [0, 1, 2],
        "target_features": np.eye(2, 4),
        "target_labels": [0, 1],
        "num_source_classes": 3,
        "num_target_classes": 2,
    }
    assert np.isfinite(mkmmd_cost(**arguments)).all()
    with pytest.raises(InputError, match=message):
        mkmmd_cost(**{**arguments, **changes})


def test_median_is_near_that_of_all_pairs():
    features, _ = draw_features([40, 50], dimension=5)
    expected = reference.median_squared_distance(features)
    medians = [median_squared_distance(features, seed) for seed in range(5)]
    np.testing.assert_allclose(medians, expected, rtol=0.05)
    assert len(set(medians)) > 1 and medians[0] == median_squared_distance(features)


def test_median_of_pairs_that_are_equally_far():
    # Corners of a simplex; float32 as features come.
    assert median_squared_distance(3 * np.eye(5, dtype="float32")) == 18.0


# Nothing to measure; mostly 0: the share of pairs that hold the one other image is drawn.
@pytest.mark.parametrize("features", [np.ones((1, 4)), np.ones((7, 4)), np.zeros((2, 0))])
def test_median_without_a_distance_is_one(features):
    assert median_squared_distance(features) == 1.0


def test_median_of_zero_gives_way_to_the_mean():
    features = np.zeros((20, 1))
    features[0] = 3.0
    # 19 of the 190 pairs are 9 apart; 20,000 draws know that to some percent.
    np.testing.assert_allclose(median_squared_distance(features), 0.9, rtol=0.1)


def test_kernel_features_estimate_the_kernel():
    features, _ = draw_features([6, 6], dimension=4, spread=1.5)
    scale = median_squared_distance(features)
    embedded = draw_kernel_features(scale, 4, 20_000)(features)
    assert embedded.shape == (12, 40_000) and embedded.dtype == np.float32
    squares = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    expected = np.mean([np.exp(-squares / (factor * scale)) for factor in FACTORS], axis=0)
    # The error of a mean of 20,000 cosines is at most 0.007 in 3 of 4 entries, were they independent; here of all.
    np.testing.assert_allclose(embedded @ embedded.T, expected, rtol=0, atol=0.015)


def test_kernel_features_have_no_bias():
    features, _ = draw_features([3, 3], dimension=4, spread=1.0)
    squares = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    expected = np.mean([np.exp(-squares / (factor * 5.0)) for factor in FACTORS], axis=0)
    # Fewer frequencies than dimensions of a bandwidth, and more.
    for num_frequencies in (10, 35):
        draws = np.array(
            [(z := draw_kernel_features(5.0, 4, num_frequencies, seed)(features)) @ z.T for seed in range(600)]
        )
        error, deviation = draws.mean(axis=0) - expected, draws.std(axis=0) / np.sqrt(600)
        assert np.all(np.abs(error) <= 4 * deviation + 1e-6)


def test_orthogonal_frequencies_scatter_less_than_independent_ones():
    features, _ = draw_features([4, 4], dimension=20, spread=0.3)
    scale = 2 * median_squared_distance(features)
    count = 100
    rng = np.random.default_rng(0)
    scales = np.sqrt(2 / (np.repeat(FACTORS, count // 5) * scale))[:, None]

    def scatter(draw):
        return np.mean(np.std([(z := draw(seed)(features)) @ z.T for seed in range(60)], axis=0))

    independent = scatter(lambda _: KernelFeatures((scales * rng.normal(size=(count, 20))).astype("float32")))
    assert scatter(lambda seed: draw_kernel_features(scale, 20, count, seed)) < 0.9 * independent


def test_frequencies_are_divided_evenly_over_the_bandwidths():
    scale, dimension = 3.0, 500
    frequencies = draw_kernel_features(scale, dimension, 100).frequencies
    squares = np.sort((frequencies**2).sum(axis=1)).reshape(5, 20)
    # A chi-squared of 500 degrees of freedom is within 30 % of its mean.
    expected = 2 * dimension / (np.array(FACTORS)[::-1, None] * scale)
    np.testing.assert_allclose(squares, np.tile(expected, 20), rtol=0.3)


def test_frequencies_are_orthogonal_in_groups():
    frequencies = draw_kernel_features(1.0, 8, 50).frequencies
    for start in range(0, 50, 8):
        group = frequencies[start : start + 8]
        group /= np.linalg.norm(group, axis=1, keepdims=True)
        np.testing.assert_allclose(group @ group.T, np.eye(len(group)), rtol=0, atol=1e-6)


def test_draw_is_told_by_its_seed():
    one, two, other = (draw_kernel_features(1.0, 3, 10, seed).frequencies for seed in (4, 4, 5))
    np.testing.assert_array_equal(one, two)
    assert not np.any(one == other)


def test_embedded_images_have_length_one():
    features = np.random.default_rng(0).normal(size=(30, 6)).astype("float32")
    for magnitude in (0.0, 1.0, 1e4):
        embedded = np.float64(draw_kernel_features(1.0, 6, 50)(magnitude * features))
        np.testing.assert_allclose((embedded**2).sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("counts", [([4, 7, 5], [6, 3]), ([1, 4, 1], [2, 1])])
def test_linear_cost_agrees_with_the_double_loops(counts):
    source, target = draw_features(counts[0]), draw_features(counts[1], seed=1)
    features = draw_kernel_features(2.0, 3, 50)
    frequencies = np.float64(features.frequencies)

    def kernel(x, y):
        return np.cos(frequencies @ (x - y)).mean()

    cost = linear_cost_of(source, target, features)
    expected = reference.mmd_of_kernel(kernel, *source, *target, 3, 2)
    assert cost.shape == (3, 2) and cost.dtype == np.float64
    # Embedded in float32, with phases of up to 20.
    np.testing.assert_allclose(cost, expected, rtol=0, atol=1e-5)


def test_linear_cost_orders_the_pairs_like_the_exact_one():
    source, target = draw_features([30] * 12, dimension=40), draw_features([20] * 10, dimension=40, seed=1)
    scale = median_squared_distance(np.concatenate([source[0], target[0]]))
    exact = double_centre(cost_of(source, target, scale=scale))
    linear = double_centre(linear_cost_of(source, target, draw_kernel_features(scale, 40)))
    assert spearmanr(exact.ravel(), linear.ravel()).statistic > 0.98


def test_linear_cost_of_constant_features_is_nothing():
    labels = np.arange(6) % 2
    source, target = (np.full((6, 3), 0.7), labels), (np.full((4, 3), 0.7), labels[:4])
    np.testing.assert_allclose(linear_cost_of(source, target, draw_kernel_features(1.0, 3, 50)), 0, atol=1e-6)


def test_linear_cost_of_huge_features():
    source, target = ((features.astype("float32"), y) for features, y in (draw_features([4, 7]), draw_features([6, 3])))
    unit = np.float32(2.0**100)
    large = [(unit * features, labels) for features, labels in (source, target)]
    plain, scaled = (draw_kernel_features(2.0 * float(u) ** 2, 3, 50) for u in (1.0, unit))
    # A power of 2 changes no digit.
    np.testing.assert_allclose(linear_cost_of(*large, scaled), linear_cost_of(source, target, plain), rtol=1e-6)


def test_parts_add_up():
    features, labels = draw_features([4, 1, 7])
    order = np.random.default_rng(0).permutation(12)
    kernel_features = draw_kernel_features(1.0, 3, 50)
    whole = embed(kernel_features, features, labels)
    # The second part has no image of the class of one.
    parts = [ClassEmbeddings(3, kernel_features.width) for _ in range(2)]
    is_first = np.isin(order, [0, 4, 5])
    for part, rows in zip(parts, (order[is_first], order[~is_first]), strict=True):
        for row in rows:
            part.add(kernel_features(features[row : row + 1]), labels[row : row + 1])
    parts[0].merge(parts[1])
    np.testing.assert_array_equal(parts[0].counts, [4, 1, 7])
    np.testing.assert_array_equal(whole.counts, [4, 1, 7])
    # Products of other shapes round float32 differently.
    np.testing.assert_allclose(parts[0].sums, whole.sums, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(parts[1].counts, [3, 0, 6])


def test_sums_are_those_of_the_images_given():
    embedded = np.float32([[1, 0.5], [0.25, 2], [4, 8]])
    embeddings = ClassEmbeddings(3, 2)
    embeddings.add(embedded, np.array([2, 0, 2]))
    embeddings.add(embedded[:0], np.array([], int))
    np.testing.assert_array_equal(embeddings.sums, [[0.25, 2], [0, 0], [5, 8.5]])
    np.testing.assert_array_equal(embeddings.counts, [1, 0, 2])


def test_a_single_image_still_counts_among_millions():
    embeddings = ClassEmbeddings(1, 1)
    for value in (2.0**25, 1.0):
        embeddings.add(np.float32([[value]]), np.array([0]))
    # float32 would end at 2^25.
    np.testing.assert_array_equal(embeddings.sums, [[2**25 + 1]])


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="`other` must have 3 classes of width 10. Received: 3 of width 20"):
        ClassEmbeddings(3, 10).merge(ClassEmbeddings(3, 20))
    with pytest.raises(ValueError, match="Received: 2 of width 10"):
        ClassEmbeddings(3, 10).merge(ClassEmbeddings(2, 10))
    full = embed(draw_kernel_features(1.0, 3, 10), *draw_features([2, 2]))
    wide = embed(draw_kernel_features(1.0, 3, 20), *draw_features([2, 2]))
    with pytest.raises(ValueError, match="`target` must have the width 20 of `source`. Received: 40"):
        mkmmd_of_embeddings(full, wide)


def test_class_without_images_is_refused():
    features = draw_kernel_features(1.0, 3, 10)
    full, partial = embed(features, *draw_features([2, 2])), ClassEmbeddings(4, 20)
    partial.add(features(np.zeros((3, 3))), np.array([0, 1, 3]))
    with pytest.raises(ValueError, match="`source` must have images of each class. Received: none of class 2"):
        mkmmd_of_embeddings(partial, full)
    with pytest.raises(ValueError, match="`target` must have images of each class. Received: none of class 2"):
        mkmmd_of_embeddings(full, partial)


@pytest.mark.parametrize(
    ("embedded", "labels", "message"),
    [
        (np.zeros((2, 5)), [0, 1], r"`embedded` must have shape \[2, 4\]. Received: \[2, 5\]"),
        (np.zeros((3, 4)), [0, 1], r"`embedded` must have shape \[2, 4\]. Received: \[3, 4\]"),
        (np.zeros((2, 4)), [0, 3], "`labels` must be from 0 to 2. Received: 0 to 3"),
        (np.zeros((2, 4)), [-1, 1], "`labels` must be from 0 to 2. Received: -1 to 1"),
    ],
)
def test_images_that_do_not_fit_are_refused(embedded, labels, message):
    embeddings = ClassEmbeddings(3, 4)
    with pytest.raises(InputError, match=message):
        embeddings.add(embedded, labels)
    assert not embeddings.sums.any() and not embeddings.counts.any()


@pytest.mark.parametrize(
    ("scale", "num_frequencies", "message"),
    [
        (0.0, 10, "`scale` must be a finite number above 0. Received: 0.0"),
        (np.nan, 10, "`scale` must be a finite number above 0. Received: nan"),
        (1.0, 12, "`num_frequencies` must be a multiple of 5. Received: 12"),
        (1.0, 0, "`num_frequencies` must be a multiple of 5. Received: 0"),
    ],
)
def test_draw_that_is_not_possible(scale, num_frequencies, message):
    with pytest.raises(InputError, match=message):
        draw_kernel_features(scale, 3, num_frequencies)


def test_features_that_do_not_fit_the_draw():
    features = draw_kernel_features(1.0, 3, 10)
    with pytest.raises(InputError, match=r"must have shape \[images, 3\]. Received: \[2, 4\]"):
        features(np.zeros((2, 4)))
    with pytest.raises(InputError, match="`features` must be finite. Received: inf in image 1"):
        features(np.array([[0.0, 0, 0], [0, np.inf, 0]]))
