import dataclasses
import functools

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from PIL import Image

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.cost_building import build_cost_matrix
from jtln_tf.costs import CostMatrix
from jtln_tf.domains import load_domain
from jtln_tf.features import extract_class_features
from jtln_tf.pairing import augment_images


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
        "centring": "dual",
        "scale": "range",
    }


def test_mkmmd_agrees_with_the_double_loops(source, target):
    values = build_cost_matrix(source, target).values
    raw = reference.mkmmd(pixels(source.train), source.train.labels, pixels(target.train), target.train.labels, 4, 3)
    centred = reference.dual_centre(raw)
    # The scale is a median over drawn pairs, not over all, and the potentials are good to a fraction of epsilon = 0.03.
    np.testing.assert_allclose(values, (centred - centred.min()) / np.ptp(centred), rtol=0, atol=0.02)


def test_a_domain_to_itself(source):
    matrix = build_cost_matrix(source, source)
    np.testing.assert_allclose(matrix.values, matrix.values.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(matrix.values), 0, atol=1e-4)
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
    np.testing.assert_allclose(mixed.values, plain.values[rows][:, columns], rtol=0, atol=1e-6)


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
    augment = functools.partial(augment_images, seed=3)
    matrix = build_cost_matrix(source, target, images_per_class=20, augment=augment)
    assert matrix.parameters["augmented"] is True and matrix.parameters["images_per_class"] == 20
    assert matrix.values.min() == 0 and matrix.values.max() == 1
    again, other = (
        build_cost_matrix(source, target, images_per_class=20, augment=functools.partial(augment_images, seed=seed))
        for seed in (3, 4)
    )
    np.testing.assert_array_equal(again.values, matrix.values)
    assert np.abs(other.values - matrix.values).max() > 1e-3
    assert np.abs(build_cost_matrix(source, target, images_per_class=20).values - matrix.values).max() > 1e-3


def test_views_agree_with_the_double_loops(source, target):
    values = build_cost_matrix(source, target, images_per_class=8, augment=mirror).values
    features = []
    for domain in (source, target):
        views = domain.train.images[cycled_rows(domain.train, 8)][:, :, ::-1] / 255.0
        features += [views.reshape(len(views), -1), np.repeat(np.arange(domain.num_classes), 8)]
    centred = reference.dual_centre(reference.mkmmd(*features, 4, 3))
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


@pytest.mark.parametrize("metric", ["wasserstein", "cost.txt", ""])
def test_unknown_metric(source, target, metric):
    with pytest.raises(InputError, match=f"must be a file or one of mkmmd, uniform. Received: '{metric}'"):
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
