import dataclasses
import functools
import io
import zipfile

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from PIL import Image

from jtln_tf.backbones.batch_norm import set_batchnorm_policy
from jtln_tf.batches import augment_images
from jtln_tf.config import CostConfig, InputError, MissingInputError
from jtln_tf.costs import (
    CostMatrix,
    build_cost_matrix,
    build_online_costs,
    fit_source_classifier,
    fit_whitening,
    mkmmd_cost,
    prediction_cost,
    wasserstein_cost,
)
from jtln_tf.data import load_domain
from jtln_tf.features import extract_class_features


def keep_classes(domain, labels):
    splits = {}
    for name in ("train", "validation", "test"):
        split = domain.split(name)
        kept = split.take(np.flatnonzero(np.isin(split.labels, labels)))
        splits[name] = dataclasses.replace(kept, labels=np.searchsorted(labels, kept.labels).astype("int32"))
    return dataclasses.replace(domain, class_names=tuple(domain.class_names[label] for label in labels), **splits)


@pytest.fixture(scope="module")
def source():
    return keep_classes(load_domain("builtin:mnist5k?per_class=12", image_size=8), [0, 1, 2, 3])


@pytest.fixture(scope="module")
def target():
    return keep_classes(load_domain("builtin:optdigits?per_class=5", image_size=8), [1, 2, 7])


@pytest.fixture(scope="module")
def features_model():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(6, 3, activation="relu")(x)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x), name="six_filters")


def reorder(domain, order):
    """The same domain, its classes in another order."""
    positions = np.argsort(order).astype("int32")

    def relabel(split):
        return dataclasses.replace(split, labels=positions[split.labels])

    return dataclasses.replace(
        domain,
        class_names=tuple(domain.class_names[old] for old in order),
        train=relabel(domain.train),
        validation=relabel(domain.validation),
        test=relabel(domain.test),
    )


def rename(domain, names):
    return dataclasses.replace(domain, class_names=tuple(names))


def pixels(split):
    return split.images.reshape(len(split), -1) / 255.0


def first_rows(split, count):
    """Indices of the first images of each class, class by class."""
    return np.concatenate([np.flatnonzero(split.labels == label)[:count] for label in np.unique(split.labels)])


def cycled_rows(split, count):
    """`count` indices of each class, class by class, its images over and over."""
    rows = []
    for label in np.unique(split.labels):
        own = np.flatnonzero(split.labels == label)
        rows.extend(own[view % len(own)] for view in range(count))
    return rows


def mirror(images, step=0):
    return tf.reverse(tf.cast(images, tf.float32), [2])


def put_on_disk(split, folder):
    """The same split, its images decoded each time they are read."""
    paths = [str(folder / f"{index}.png") for index in range(len(split))]
    for path, image in zip(paths, split.images, strict=True):
        Image.fromarray(image[..., 0]).save(path)
    return dataclasses.replace(split, images=np.array(paths, object))


def test_images_of_each_domain_are_seen_by_its_own_statistics(source, target, tmp_path):
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.BatchNormalization(name="norm")(image)
    backbone = keras.Model(image, keras.layers.Flatten()(x), name="backbone")
    backbone = set_batchnorm_policy(backbone, "per_domain")
    for side, mean in (("source", 50.0), ("target", 200.0)):
        backbone.get_layer("norm").norms[side].moving_mean.assign([mean])

    def by_hand(domain, mean):
        rows = first_rows(domain.train, 5)
        values = domain.train.images[rows].reshape(len(rows), -1).astype(np.float64)
        return (values - mean) / np.sqrt(1 + 1e-3), domain.train.labels[rows]

    counts = {"num_source_classes": 4, "num_target_classes": 3}
    expected = mkmmd_cost(*by_hand(source, 50.0), *by_hand(target, 200.0), **counts)
    expected = (expected - expected.min()) / np.ptp(expected)
    for _ in range(2):
        options = {"images_per_class": 5, "centring": "none", "whitening": False}
        matrix = build_cost_matrix(source, target, features_model=backbone, cache=str(tmp_path), **options)
        np.testing.assert_allclose(matrix.values, expected, atol=1e-4)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_mkmmd_of_pixels(source, target):
    matrix = build_cost_matrix(source, target)
    assert matrix.values.shape == (4, 3) and matrix.values.dtype == np.float32
    assert matrix.values.min() == 0 and matrix.values.max() == 1
    assert matrix.source_classes == source.class_names and matrix.target_classes == target.class_names
    assert matrix.metric == "mkmmd"
    assert matrix.parameters == {
        "images_per_class": 50,
        "features": "pixels",
        "augmented": False,
        "whitened": True,
        "centring": "double",
        "scale": "max",
    }


def test_mkmmd_agrees_with_the_double_loops(source, target):
    values = build_cost_matrix(source, target, whitening=False).values
    raw = reference.mkmmd(pixels(source.train), source.train.labels, pixels(target.train), target.train.labels, 4, 3)
    centred = reference.double_centre(raw)
    # The scale is a median over drawn pairs, not over all.
    np.testing.assert_allclose(values, (centred - centred.min()) / np.ptp(centred), rtol=0, atol=0.02)


def test_a_domain_to_itself(source):
    matrix = build_cost_matrix(source, source)
    np.testing.assert_allclose(matrix.values, matrix.values.T, atol=1e-6)
    np.testing.assert_array_equal(matrix.values.argmin(axis=1), range(4))
    assert matrix.nearest(1) == {name: [name] for name in source.class_names}


def test_built_twice_is_the_same(source, target, features_model):
    for model in (None, features_model):
        one, two = (build_cost_matrix(source, target, features_model=model).values for _ in range(2))
        np.testing.assert_array_equal(one, two)


def test_order_of_the_classes_is_the_order_of_the_matrix(source, target):
    rows, columns = [2, 0, 3, 1], [1, 2, 0]
    plain = build_cost_matrix(source, target)
    mixed = build_cost_matrix(reorder(source, rows), reorder(target, columns))
    assert mixed.source_classes == tuple(source.class_names[row] for row in rows)
    np.testing.assert_allclose(mixed.values, plain.values[rows][:, columns], rtol=0, atol=1e-3)


def test_names_are_not_looked_at(source, target):
    plain = build_cost_matrix(source, target)
    renamed = build_cost_matrix(rename(source, "wxyz"), rename(target, ("y", "w", "x")))
    np.testing.assert_array_equal(renamed.values, plain.values)
    assert renamed.source_classes == tuple("wxyz") and renamed.target_classes == ("y", "w", "x")


def test_features_model_is_looked_at(source, target, features_model):
    by_pixels = build_cost_matrix(source, target)
    by_features = build_cost_matrix(source, target, features_model=features_model)
    assert by_features.parameters["features"] == "six_filters"
    assert np.abs(by_pixels.values - by_features.values).max() > 0.01
    assert by_features.values.min() == 0 and by_features.values.max() == 1


def test_images_per_class_limits_what_is_looked_at(source, target):
    few = build_cost_matrix(source, target, images_per_class=3)
    assert few.parameters["images_per_class"] == 3
    cut_source, cut_target = (
        dataclasses.replace(domain, train=domain.train.take(first_rows(domain.train, 3))) for domain in (source, target)
    )
    np.testing.assert_array_equal(few.values, build_cost_matrix(cut_source, cut_target).values)
    assert np.abs(few.values - build_cost_matrix(source, target).values).max() > 1e-3


def test_augmented_views_are_looked_at(source, target):
    augment = dict.fromkeys(("source", "target"), functools.partial(augment_images, seed=3))
    matrix = build_cost_matrix(source, target, images_per_class=20, augment=augment)
    assert matrix.parameters["augmented"] is True and matrix.parameters["images_per_class"] == 20
    assert matrix.values.min() == 0 and matrix.values.max() == 1
    again, other = (
        build_cost_matrix(source, target, images_per_class=20, augment={**augment, "source": source_views})
        for source_views in (augment["source"], functools.partial(augment_images, seed=4))
    )
    np.testing.assert_array_equal(again.values, matrix.values)
    assert np.abs(other.values - matrix.values).max() > 1e-3
    assert np.abs(build_cost_matrix(source, target, images_per_class=20).values - matrix.values).max() > 1e-3


@pytest.mark.parametrize("mirrored", [("source", "target"), ("target",), ("source",)])
def test_views_agree_with_the_double_loops(source, target, mirrored):
    augment = dict.fromkeys(mirrored, mirror)
    values = build_cost_matrix(source, target, images_per_class=8, augment=augment, whitening=False).values
    features = []
    for side, domain in (("source", source), ("target", target)):
        # What is not augmented is not filled up.
        rows = cycled_rows(domain.train, 8) if side in mirrored else first_rows(domain.train, 8)
        images = domain.train.images[rows] / 255.0
        views = images[:, :, ::-1] if side in mirrored else images
        features += [views.reshape(len(views), -1), domain.train.labels[rows]]
    centred = reference.double_centre(reference.mkmmd(*features, 4, 3))
    # As above.
    np.testing.assert_allclose(values, (centred - centred.min()) / np.ptp(centred), rtol=0, atol=0.02)


def test_only_training_images_are_looked_at(source, target):
    others = {name: dataclasses.replace(source.split(name), images=None) for name in ("validation", "test")}
    blind = build_cost_matrix(dataclasses.replace(source, **others), target)
    np.testing.assert_array_equal(blind.values, build_cost_matrix(source, target).values)


def test_one_image_a_class(source, target):
    values = build_cost_matrix(source, target, images_per_class=1).values
    assert np.isfinite(values).all() and values.min() == 0 and values.max() == 1


def test_images_all_the_same(source, target):
    blank = [
        dataclasses.replace(domain, train=dataclasses.replace(domain.train, images=0 * domain.train.images))
        for domain in (source, target)
    ]
    np.testing.assert_array_equal(build_cost_matrix(*blank).values, 0)


def test_uniform(source, target):
    matrix = build_cost_matrix(source, target, "uniform")
    np.testing.assert_array_equal(matrix.values, [[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    assert matrix.metric == "uniform" and matrix.parameters == {}


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_file_is_put_in_the_order_of_the_domains(source, target, tmp_path, suffix):
    path = tmp_path / f"cost{suffix}"
    values = np.arange(12, dtype="float32").reshape(4, 3)
    CostMatrix(values, ("3", "1", "0", "2"), ("7", "1", "2")).save(path)
    matrix = build_cost_matrix(source, target, str(path))
    assert matrix.source_classes == ("0", "1", "2", "3") and matrix.target_classes == ("1", "2", "7")
    np.testing.assert_array_equal(matrix.values, values[[2, 1, 3, 0]][:, [1, 2, 0]])


def test_file_of_other_classes(source, target, tmp_path):
    path = tmp_path / "cost.csv"
    CostMatrix(np.zeros((4, 3)), tuple("0124"), ("1", "2", "7")).save(path)
    with pytest.raises(InputError, match="the 4 source classes of the data. .* missing '3', unknown '4'"):
        build_cost_matrix(source, target, str(path))


def test_file_that_does_not_exist(source, target, tmp_path):
    with pytest.raises(MissingInputError, match="must name an existing file. Received: '.*none.npz'"):
        build_cost_matrix(source, target, str(tmp_path / "none.npz"))


@pytest.mark.parametrize("metric", ["euclid", "cost.txt", ""])
def test_unknown_metric(source, target, metric):
    with pytest.raises(InputError, match=f"must be a .npz or .csv file or one of mkmmd, .* Received: '{metric}'"):
        build_cost_matrix(source, target, metric)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 16, 1000])
def test_features_are_of_the_first_images_class_by_class(source, tmp_path, on_disk, batch_size):
    split = source.train.take(np.random.default_rng(0).permutation(len(source.train)))
    expected = pixels(split)[first_rows(split, 4)]
    read = put_on_disk(split, tmp_path) if on_disk else split
    features, labels = extract_class_features(None, read, 4, batch_size=batch_size)
    np.testing.assert_array_equal(labels, np.repeat(np.arange(4), 4))
    assert labels.dtype == np.int32 and features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-6)


def test_classes_of_fewer_images_give_all_of_them(source):
    split = source.train.take(first_rows(source.train, 12)[:-5])
    features, labels = extract_class_features(None, split, 10)
    np.testing.assert_array_equal(np.bincount(labels), [10, 10, 10, 7])
    np.testing.assert_allclose(features, pixels(split)[first_rows(split, 10)], rtol=1e-6)


@pytest.mark.parametrize("on_disk", [False, True])
def test_augmented_views_cycle_through_the_images_batch_by_batch(source, tmp_path, on_disk):
    # Classes of 12, 12, 3 and 1 images.
    kept = np.isin(np.arange(48), [*first_rows(source.train, 12)[:27], first_rows(source.train, 1)[3]])
    split = source.train.take(np.flatnonzero(kept))
    np.testing.assert_array_equal(np.bincount(split.labels), [12, 12, 3, 1])
    calls = []

    def augment(images, step):
        calls.append((images.dtype, len(images), step))
        return mirror(images)

    read = put_on_disk(split, tmp_path) if on_disk else split
    features, labels = extract_class_features(None, read, 7, augment, batch_size=20)
    assert calls == [(np.uint8, 20, 0), (np.uint8, 8, 1)]
    np.testing.assert_array_equal(labels, np.repeat(np.arange(4), 7))
    expected = split.images[cycled_rows(split, 7)][:, :, ::-1] / 255.0
    np.testing.assert_allclose(features, expected.reshape(28, -1), rtol=1e-6)


def test_views_of_one_image_differ(source):
    split = source.train.take(first_rows(source.train, 1))
    features, _ = extract_class_features(None, split, 60, functools.partial(augment_images, seed=0), batch_size=30)
    # 9 shifts of an image of 8 pixels.
    assert [len(np.unique(features[start : start + 60], axis=0)) for start in range(0, 240, 60)] == [9] * 4
    assert not np.array_equal(features[:30], features[30:60])


def test_classes_without_images_give_no_views(source):
    split = source.train.take(np.flatnonzero(source.train.labels % 2))
    for augment, count in ((None, 12), (mirror, 20)):
        np.testing.assert_array_equal(extract_class_features(None, split, 20, augment)[1], np.repeat([1, 3], count))


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_a_model_sees_the_images_in_their_range(source, features_model, batch_size):
    features, labels = extract_class_features(features_model, source.train, 12, batch_size=batch_size)
    assert features.shape == (48, 6) and features.dtype == np.float32
    images = source.train.images[first_rows(source.train, 12)].astype("float32")
    # Batches of another size may sum float32 in another order.
    np.testing.assert_allclose(features, features_model(images, training=False), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(labels, np.repeat(np.arange(4), 12))


def build_values(source, target, metric, **options):
    return build_cost_matrix(source, target, metric, **options).values


@pytest.mark.parametrize("metric", ["wasserstein", "prediction"])
def test_image_metrics_are_those_of_the_features(source, target, metric):
    of_source, of_target = ((pixels(domain.train), domain.train.labels) for domain in (source, target))
    if metric == "wasserstein":
        raw = wasserstein_cost(*of_source, *of_target, num_source_classes=4, num_target_classes=3)
    else:
        votes = fit_source_classifier(*of_source)(of_target[0])
        raw = prediction_cost(votes, of_target[1], num_target_classes=3)
    matrix = build_cost_matrix(source, target, metric, whitening=False)
    centred = reference.double_centre(raw)
    np.testing.assert_allclose(matrix.values, (centred - centred.min()) / np.ptp(centred), rtol=1e-4, atol=1e-4)
    assert matrix.metric == metric and matrix.parameters["centring"] == "double"


def test_linear_time_mkmmd_agrees_with_the_exact_one(source, target):
    exact, linear, auto = (
        build_cost_matrix(source, target, estimator=estimator, whitening=False)
        for estimator in ("exact", "linear", "auto")
    )
    assert np.corrcoef(exact.values.ravel(), linear.values.ravel())[0, 1] > 0.9
    assert "frequencies" in linear.parameters and "frequencies" not in exact.parameters
    np.testing.assert_array_equal(auto.values, exact.values)


def test_prediction_by_a_classifier_of_the_source_classes(source, target):
    image = keras.Input((8, 8, 1))
    share = keras.layers.Softmax()(keras.layers.Dense(4, name="votes")(keras.layers.Flatten()(image)))
    classifier = keras.Model(image, share, name="always_the_third")
    classifier.get_layer("votes").kernel.assign(np.zeros((64, 4)))
    classifier.get_layer("votes").bias.assign([0.0, 0.0, 5.0, 0.0])
    matrix = build_cost_matrix(source, target, "prediction", source_classifier=classifier, centring="none")
    assert matrix.parameters["classifier"] == "always_the_third"
    np.testing.assert_array_equal(matrix.values.argmin(axis=0), 2)
    # The same for every image, so for every class.
    np.testing.assert_allclose(matrix.values - matrix.values[:, :1], 0, atol=1e-6)


def describe_digits(domain, table):
    return dataclasses.replace(domain, class_table=table)


DESCRIPTIONS = {
    "0": {"class": "0", "shape": "round", "description": "a closed ring"},
    "1": {"class": "1", "shape": "straight", "description": "a single upright stroke"},
    "2": {"class": "2", "shape": "bent", "description": "a hook above a base line"},
    "3": {"class": "3", "shape": "round", "description": "two open rings"},
    "7": {"class": "7", "shape": "straight", "description": "a slanted stroke below a bar"},
}


def test_text_reads_the_class_table(source, target):
    matrix = build_cost_matrix(
        describe_digits(source, DESCRIPTIONS), describe_digits(target, DESCRIPTIONS), "text", centring="none"
    )
    assert matrix.nearest(1) == {"1": ["1"], "2": ["2"], "7": ["1"]}
    assert matrix.parameters["text"] == "tfidf" and matrix.parameters["described_target_classes"] == 3
    assert matrix.data == {} and matrix.backbone == ""


def test_taxonomy_by_columns_of_the_class_table(source, target, tmp_path):
    domains = [describe_digits(domain, DESCRIPTIONS) for domain in (source, target)]
    matrix = build_cost_matrix(*domains, "taxonomy", taxonomy="columns:shape", centring="none")
    # 1 and 7 are straight: 2 edges; other shapes 4; the same class 0.
    np.testing.assert_allclose(matrix.values * 4, [[4, 4, 4], [0, 4, 2], [4, 0, 4], [4, 4, 4]])
    path = tmp_path / "classes.csv"
    path.write_text("digit,shape\n" + "".join(f"{name},{row['shape']}\n" for name, row in DESCRIPTIONS.items()))
    given = build_cost_matrix(
        source, target, "taxonomy", taxonomy="columns:shape", centring="none", class_table=str(path)
    )
    np.testing.assert_array_equal(given.values, matrix.values)


def test_taxonomy_by_a_file_of_parents(source, target, tmp_path):
    path = tmp_path / "parents.csv"
    path.write_text("child,parent\n0,round\n3,round\n1,straight\n7,straight\n2,bent\n")
    matrix = build_cost_matrix(source, target, "taxonomy", taxonomy=str(path), centring="none")
    np.testing.assert_allclose(matrix.values * 4, [[4, 4, 4], [0, 4, 2], [4, 0, 4], [4, 4, 4]])


def test_taxonomy_without_what_it_needs(source, target):
    with pytest.raises(InputError, match="`cost_class_table` must have a row for each source class, .* without '0'"):
        build_cost_matrix(source, target, "taxonomy", taxonomy="columns:shape")
    with pytest.raises(InputError, match="`cost_taxonomy` must be columns:NEAR,FAR, .* Received: 'shape'"):
        build_cost_matrix(source, target, "taxonomy", taxonomy="shape")


def test_fisher_vectors_find_the_digits_that_both_have():
    pytest.importorskip("skimage")
    source, target = (
        keep_classes(load_domain("builtin:mnist5k?per_class=30", seed=seed), labels)
        for seed, labels in ((0, [0, 1, 2, 3]), (1, [1, 3]))
    )
    matrix = build_cost_matrix(source, target, "fisher_mkmmd")
    assert matrix.nearest(1) == {"1": ["1"], "3": ["3"]}
    assert matrix.parameters["features"] == "fisher"


def test_a_combination_is_the_weighted_sum_of_its_parts(source, target, tmp_path):
    path = tmp_path / "a+b.csv"
    CostMatrix(np.arange(12).reshape(4, 3) ** 2, source.class_names, target.class_names).save(path)
    matrix = build_cost_matrix(source, target, f"2*mkmmd+0.5*{path}")
    mkmmd = build_values(source, target, "mkmmd").astype("float64")
    file = reference.double_centre((np.arange(12).reshape(4, 3) ** 2).astype("float64"))
    expected = 2 * mkmmd + 0.5 * (file - file.min()) / np.ptp(file)
    expected -= expected.min()
    np.testing.assert_allclose(matrix.values, expected / expected.max(), rtol=1e-5, atol=1e-6)
    assert [part["name"] for part in matrix.parameters["parts"]] == ["mkmmd", str(path)]
    assert [part["weight"] for part in matrix.parameters["parts"]] == [2.0, 0.5]


@pytest.mark.parametrize(
    ("by", "statistic"), [("max", np.max), ("mean", np.mean), ("median", np.median), ("std", np.std)]
)
def test_scale_by(source, target, by, statistic):
    matrix = build_cost_matrix(source, target, scale=by)
    assert matrix.values.min() == 0 and statistic(matrix.values) == pytest.approx(1.0, rel=1e-5)
    assert matrix.parameters["scale"] == by


@pytest.mark.parametrize("metric", ["mkmmd", "uniform"])
def test_the_shuffled_control_moves_every_row(source, target, metric):
    plain = build_values(source, target, metric)
    shuffled = build_cost_matrix(source, target, f"shuffled:{metric}", seed=3)
    order = [[row for row in range(4) if np.array_equal(shuffled.values[place], plain[row])] for place in range(4)]
    if metric == "mkmmd":
        assert sorted(order) == [[0], [1], [2], [3]]
        assert all(place not in rows for place, rows in enumerate(order))
    assert sorted(map(tuple, shuffled.values)) == sorted(map(tuple, plain))
    assert shuffled.metric == f"shuffled:{metric}" and shuffled.parameters["shuffle_seed"] == 3
    np.testing.assert_array_equal(shuffled.values, build_values(source, target, f"shuffled:{metric}", seed=3))


def test_a_file_is_used_with_the_images_and_the_backbone_that_it_was_built_from(source, target, tmp_path):
    path = tmp_path / "cost.npz"
    built = build_cost_matrix(source, target, backbone="small_cnn")
    built.save(path)
    again = build_cost_matrix(source, target, str(path), backbone="small_cnn")
    np.testing.assert_array_equal(again.values, built.values)
    # Another draw of the labels.
    other = keep_classes(load_domain("builtin:optdigits?per_class=5", image_size=8, seed=1), [1, 2, 7])
    with pytest.raises(
        InputError, match="must be built from the target training images of this run: 15 images of .*15 "
    ):
        build_cost_matrix(source, other, str(path), backbone="small_cnn")
    with pytest.raises(
        InputError, match="by the backbone of this run, 'alexnet'. Received: one by 'small_cnn'. Hint: "
    ):
        build_cost_matrix(source, target, str(path), backbone="alexnet")
    # A spreadsheet has no such marks: its author knows.
    built.save(tmp_path / "cost.csv")
    build_cost_matrix(source, other, str(tmp_path / "cost.csv"), backbone="alexnet")


def test_matrices_of_names_fit_any_images(source, target, tmp_path):
    path = tmp_path / "cost.npz"
    build_cost_matrix(source, target, "uniform", backbone="small_cnn").save(path)
    other = keep_classes(load_domain("builtin:optdigits?per_class=4", image_size=8, seed=1), [1, 2, 7])
    build_cost_matrix(source, other, str(path), backbone="alexnet")


def test_cached_features_give_the_same_matrix_and_follow_the_data(source, target, features_model, tmp_path):
    plain = build_values(source, target, "mkmmd", features_model=features_model)
    for _ in range(2):
        cached = build_values(source, target, "mkmmd", features_model=features_model, cache=str(tmp_path))
        np.testing.assert_array_equal(cached, plain)
    assert len(list(tmp_path.iterdir())) == 2
    # One label of the same images is another.
    changed = source.train.labels.copy()
    changed[0] = (changed[0] + 1) % 4
    relabelled = dataclasses.replace(
        source, train=dataclasses.replace(source.train, labels=changed), fingerprint="another"
    )
    build_values(relabelled, target, "mkmmd", features_model=features_model, cache=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 3


def test_online_costs_of_class_means(source, target):
    means = np.eye(4)
    settings = CostConfig(cost_matrix="online", cost_refresh_steps=10)
    matrix = build_online_costs(source, target, means, means[[1, 2, 0]] * 0.8 + 0.05, settings)
    assert matrix.nearest(1) == {"1": ["1"], "2": ["2"], "7": ["0"]}
    assert matrix.metric == "online" and matrix.values.min() == 0 and matrix.values.max() == 1
    unseen = means.copy()
    unseen[3] = np.nan
    values = build_online_costs(source, target, unseen, means[[1, 2, 0]], settings).values
    # A class that no image has been seen of is as near to one class as to another.
    np.testing.assert_allclose(values[3], values[3, 0], atol=1e-6)
    assert values[3].min() > values[:3].min() and values[3].max() < values[:3].max()
    nothing = np.full((4, 4), np.nan)
    np.testing.assert_array_equal(build_online_costs(source, target, nothing, means[:3], settings).values, 0)


def test_progress_is_told_by_domain(source, target, features_model):
    told = []
    build_cost_matrix(source, target, features_model=features_model, progress=lambda *report: told.append(report))
    assert told == [("source images", 48, 48), ("target images", 15, 15)]


@pytest.mark.parametrize("metric", ["mkmmd", "wasserstein"])
def test_whitened_features_are_compared(source, target, metric):
    of_source, of_target = ((pixels(domain.train), domain.train.labels) for domain in (source, target))
    whiten = fit_whitening([of_source, of_target])
    cost = {"mkmmd": mkmmd_cost, "wasserstein": wasserstein_cost}[metric]
    raw = cost(
        of_source[0] @ whiten,
        of_source[1],
        of_target[0] @ whiten,
        of_target[1],
        num_source_classes=4,
        num_target_classes=3,
    )
    centred = reference.double_centre(raw)
    matrix = build_cost_matrix(source, target, metric)
    np.testing.assert_allclose(matrix.values, (centred - centred.min()) / np.ptp(centred), rtol=1e-4, atol=1e-4)
    assert np.abs(matrix.values - build_values(source, target, metric, whitening=False)).max() > 0.01


def test_a_matrix_made_of_a_file_stays_bound_to_its_images(source, target, tmp_path):
    build_cost_matrix(source, target, backbone="small_cnn").save(tmp_path / "one.npz")
    both = build_cost_matrix(source, target, f"{tmp_path / 'one.npz'}+text", backbone="small_cnn")
    assert both.backbone == "small_cnn" and both.data["target"]["images"] == 15
    both.save(tmp_path / "both.npz")
    other = keep_classes(load_domain("builtin:optdigits?per_class=5", image_size=8, seed=1), [1, 2, 7])
    with pytest.raises(InputError, match="must be built from the target training images of this run"):
        build_cost_matrix(source, other, str(tmp_path / "both.npz"))


def test_a_matrix_that_asked_no_network_fits_any_backbone(source, target, tmp_path):
    pytest.importorskip("skimage")
    matrix = build_cost_matrix(source, target, "fisher_mkmmd", backbone="small_cnn", images_per_class=3)
    assert matrix.backbone == "" and matrix.data["source"]["images"] == 48
    matrix.save(tmp_path / "cost.npz")
    build_cost_matrix(source, target, str(tmp_path / "cost.npz"), backbone="alexnet")


def test_images_without_a_fingerprint_are_not_cached(source, target, features_model, tmp_path):
    nameless = [dataclasses.replace(domain, fingerprint="") for domain in (source, target)]
    build_cost_matrix(*nameless, features_model=features_model, cache=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_cache_of_augmented_views_needs_a_key(source, target, features_model, tmp_path):
    options = {"features_model": features_model, "cache": str(tmp_path), "augment": {"source": mirror}}
    with pytest.raises(InputError, match="`cache_key` must tell what `augment` follows"):
        build_cost_matrix(source, target, **options, cache_key={"target": "mirror"})
    plain = build_values(source, target, "mkmmd", features_model=features_model, cache=str(tmp_path))
    mirrored = build_values(source, target, "mkmmd", **options, cache_key={"source": "mirror"})
    assert np.abs(plain - mirrored).max() > 1e-3


@pytest.mark.parametrize("policies", [("a", "b"), ("same", "same")])
def test_a_domain_on_both_sides_has_views_of_each_side(target, features_model, tmp_path, policies):
    augment = {"source": mirror, "target": lambda images, step: tf.cast(images, tf.float32) + 40}
    options = {"features_model": features_model, "augment": augment}
    plain = build_values(target, target, "mkmmd", **options)
    keys = dict(zip(("source", "target"), policies, strict=True))
    for _ in range(2):
        cached = build_values(target, target, "mkmmd", **options, cache=str(tmp_path), cache_key=keys)
        np.testing.assert_array_equal(cached, plain)
    # The views of one side do not follow the policy of the other.
    build_values(target, target, "mkmmd", **options, cache=str(tmp_path), cache_key={**keys, "target": "another"})
    assert len(list(tmp_path.iterdir())) == 3


def test_features_that_are_not_finite_are_told(source, target):
    image = keras.Input((8, 8, 1))
    roots = keras.layers.Lambda(lambda x: keras.ops.sqrt(x - 300.0))(keras.layers.Flatten()(image))
    with pytest.raises(InputError, match="`backbone` must give finite features. Received: NaN"):
        build_cost_matrix(source, target, features_model=keras.Model(image, roots))


def test_what_was_whitened_is_stated(source, target):
    assert build_cost_matrix(source, target).parameters["whitened"] is True
    assert build_cost_matrix(source, target, whitening=False).parameters["whitened"] is False
    assert "whitened" not in build_cost_matrix(source, target, "prediction").parameters


def test_small_features_are_not_taken_for_equal_ones(source, target):
    image = keras.Input((8, 8, 1))
    small = keras.Model(image, keras.layers.Rescaling(1e-7)(keras.layers.Flatten()(image)))
    values = build_values(source, target, "wasserstein", features_model=small, whitening=False)
    np.testing.assert_allclose(values, build_values(source, target, "wasserstein", whitening=False), atol=1e-3)


@pytest.mark.parametrize(
    "provenance",
    [
        '{"data": {"source": "x"}}',
        '{"data": []}',
        '{"metric": 5}',
        '{"backbone": {}}',
        '{"parameters": 1}',
        "[" * 100_000,
    ],
)
def test_provenance_of_another_kind_is_refused(source, target, tmp_path, provenance):
    path = tmp_path / "cost.npz"
    names = {"source_classes": np.array(source.class_names), "target_classes": np.array(target.class_names)}
    np.savez(path, values=np.zeros((4, 3)), provenance=np.array(provenance), **names)
    with pytest.raises(InputError, match="`cost_matrix` must be a cost matrix file. Received: "):
        build_cost_matrix(source, target, str(path))


def test_an_array_that_no_memory_holds_is_refused(source, target, tmp_path):
    path = tmp_path / "cost.npz"
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (10**15, 2)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("values.npy", header.getvalue())
    with pytest.raises(InputError, match="`cost_matrix` must be a cost matrix file. Received: "):
        build_cost_matrix(source, target, str(path))


def test_classes_without_a_description_are_told(source, target, caplog):
    bare = {name: {key: row[key] for key in ("class", "shape")} for name, row in DESCRIPTIONS.items()}
    matrix = build_cost_matrix(describe_digits(source, DESCRIPTIONS), describe_digits(target, bare), "text")
    (record,) = caplog.records
    assert "3 of 3 target classes have no description in the class table, '1' among them" in record.getMessage()
    assert matrix.parameters["described_source_classes"] == 4 and matrix.parameters["described_target_classes"] == 0


def test_costs_that_are_all_equal_are_told(source, target, caplog):
    build_cost_matrix(source, rename(target, "xyz"), "uniform")
    (record,) = caplog.records
    assert "the costs by 'uniform' are all equal" in record.getMessage()
    caplog.clear()
    build_cost_matrix(source, target, "uniform")
    assert not caplog.records
