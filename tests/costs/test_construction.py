import dataclasses

import keras
import numpy as np
import pytest

from jtln_tf.backbones.batch_norm import set_batchnorm_policy
from jtln_tf.config import InputError
from jtln_tf.costs.config import CostConfig
from jtln_tf.costs.construction import build_cost_matrix, build_online_costs
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.costs.metrics.mkmmd import mkmmd_cost
from jtln_tf.costs.metrics.prediction import fit_source_classifier, prediction_cost
from jtln_tf.costs.metrics.wasserstein import wasserstein_cost
from jtln_tf.costs.numerics.whitening import fit_whitening
from jtln_tf.data.domain import load_domain
from jtln_tf.features.views import choose_augmentation
from tests import reference

DESCRIPTIONS = {
    "0": {"class": "0", "shape": "round", "description": "a closed ring"},
    "1": {"class": "1", "shape": "straight", "description": "a single upright stroke"},
    "2": {"class": "2", "shape": "bent", "description": "a hook above a base line"},
    "3": {"class": "3", "shape": "round", "description": "two open rings"},
    "7": {"class": "7", "shape": "straight", "description": "a slanted stroke below a bar"},
}


@pytest.fixture(scope="module")
def source():
    return load_domain("builtin:mnist5k?classes=0,1,2,3&per_class=12", image_size=8)


@pytest.fixture(scope="module")
def target():
    return load_domain("builtin:optdigits?classes=1,2,7&per_class=5", image_size=8)


def build_values(*arguments, **options):
    metric = () if len(arguments) > 2 else ("mkmmd",)
    return build_cost_matrix(*arguments, *metric, **options).values


def pixels(domain):
    return domain.train.images.values.reshape(len(domain.train), -1) / 255.0, domain.train.labels


def standardize(raw):
    centred = reference.double_centre(raw)
    return (centred - centred.min()) / np.ptp(centred)


def first_rows(split, count):
    return np.concatenate([np.flatnonzero(split.labels == label)[:count] for label in np.unique(split.labels)])


def test_mkmmd_of_pixels(source, target):
    told = []
    matrix = build_cost_matrix(source, target, "mkmmd", whitening=False, progress=lambda *report: told.append(report))
    assert told == [("source images", 48, 48), ("target images", 15, 15)]
    raw = reference.mkmmd(*pixels(source), *pixels(target), 4, 3)
    # The unit is a median over drawn pairs, not over all.
    np.testing.assert_allclose(matrix.values, standardize(raw), rtol=0, atol=0.02)
    assert matrix.source_classes == source.class_names and matrix.target_classes == target.class_names
    assert (matrix.metric, matrix.backbone, matrix.data["target"]["images"]) == ("mkmmd", "", 15)
    assert matrix.parameters == {
        **{"images_per_class": 50, "features": "pixels", "augmented": False, "whitened": False},
        **{"centring": "double", "scale": "max"},
    }
    linear = build_cost_matrix(source, target, "mkmmd", estimator="linear", whitening=False)
    assert np.corrcoef(matrix.values.ravel(), linear.values.ravel())[0, 1] > 0.9 and "frequencies" in linear.parameters
    with pytest.raises(InputError, match=r"`target` must have images of the shape .* Received: \[9, 9, 1\]"):
        build_cost_matrix(source, load_domain("builtin:optdigits?per_class=1", image_size=9))


@pytest.mark.parametrize(("metric", "cost"), [("mkmmd", mkmmd_cost), ("wasserstein", wasserstein_cost)])
def test_whitened_features_are_compared(source, target, metric, cost):
    sides = [pixels(source), pixels(target)]
    whiten = fit_whitening(sides)
    raw = cost(*((features @ whiten, labels) for features, labels in sides))
    matrix = build_cost_matrix(source, target, metric)
    np.testing.assert_allclose(matrix.values, standardize(raw), rtol=1e-4, atol=1e-4)
    assert matrix.parameters["whitened"] is True


def test_prediction_fits_a_classifier_or_takes_the_given_one(source, target):
    features, labels = pixels(target)
    raw = prediction_cost(fit_source_classifier(*pixels(source))(features), labels)
    np.testing.assert_allclose(build_values(source, target, "prediction"), standardize(raw), rtol=1e-4, atol=1e-4)
    image = keras.Input((8, 8, 1))
    votes = keras.layers.Dense(4, "softmax", kernel_initializer="zeros", name="votes")(keras.layers.Flatten()(image))
    classifier = keras.Model(image, votes, name="always_the_third")
    classifier.get_layer("votes").bias.assign([0.0, 0.0, 5.0, 0.0])
    matrix = build_cost_matrix(source, target, "prediction", source_classifier=classifier, centring="none")
    assert matrix.parameters["classifier"] == "always_the_third"
    np.testing.assert_array_equal(matrix.values.argmin(axis=0), 2)


def test_fisher_vectors_find_the_digits_that_both_have_and_ask_no_network(monkeypatch):
    pytest.importorskip("skimage")
    monkeypatch.setattr("jtln_tf.costs.metrics.fisher_mkmmd._FIT_DESCRIPTORS", 2000)
    monkeypatch.setattr("jtln_tf.costs.metrics.fisher_mkmmd._MODES", 8)
    source, other = (
        load_domain(f"builtin:mnist5k?classes={names}&per_class=12", image_size=14, seed=seed)
        for seed, names in enumerate(("0,1,2,3", "1,3"))
    )
    matrix = build_cost_matrix(source, other, "fisher_mkmmd", backbone="small_cnn", whitening=False)
    assert matrix.nearest(1) == {"1": ["1"], "3": ["3"]}
    assert (matrix.parameters["features"], matrix.backbone) == ("fisher", "") and matrix.data


def test_degenerate_images(source, target):
    values = build_values(source, target, images_per_class=1)
    assert np.isfinite(values).all() and values.min() == 0 and values.max() == 1
    image = keras.Input((8, 8, 1))
    blank = keras.Model(image, 0 * keras.layers.Flatten()(image))
    np.testing.assert_array_equal(build_values(source, target, features_model=blank), 0)
    roots = keras.layers.Lambda(lambda x: keras.ops.sqrt(x - 300.0))(keras.layers.Flatten()(image))
    with pytest.raises(InputError, match="`backbone` must give finite features. Received: NaN"):
        build_cost_matrix(source, target, features_model=keras.Model(image, roots))


def test_augmented_views_agree_with_the_double_loops(source, target):
    options = {"images_per_class": 8, "whitening": False, "seed": 3}
    matrix = build_cost_matrix(source, target, "mkmmd", augmentation={"target": "flip"}, **options)
    assert matrix.parameters["augmented"] is True
    rows, split = first_rows(source.train, 8), target.train
    features = [pixels(source)[0][rows], source.train.labels[rows]]
    # Few images are filled up if they are augmented.
    rows = np.concatenate([np.resize(np.flatnonzero(split.labels == label), 8) for label in range(3)])
    images = choose_augmentation(split, "flip", 3)(split.images.values[rows], step=0).numpy()
    features += [images.reshape(len(rows), -1) / 255.0, split.labels[rows]]
    # The unit is a median over drawn pairs, not over all.
    expected = standardize(reference.mkmmd(*features, 4, 3))
    np.testing.assert_allclose(matrix.values, expected, rtol=0, atol=0.02)


def test_images_of_each_domain_are_seen_by_its_own_statistics(source, target, tmp_path):
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.BatchNormalization(name="norm")(image)
    backbone = keras.Model(image, keras.layers.Flatten()(x), name="backbone")
    backbone = set_batchnorm_policy(backbone, "per_domain")
    sides = []
    for side, domain, mean in (("source", source, 50.0), ("target", target, 200.0)):
        backbone.get_layer("norm").norms[side].moving_mean.assign([mean])
        features, labels = pixels(domain)
        rows = first_rows(domain.train, 5)
        sides.append(((255 * features[rows] - mean) / np.sqrt(1 + 1e-3), labels[rows]))
    expected = mkmmd_cost(*sides)
    options = {"images_per_class": 5, "centring": "none", "whitening": False, "cache": str(tmp_path)}
    for _ in range(2):
        values = build_values(source, target, features_model=backbone, **options)
        np.testing.assert_allclose(values, (expected - expected.min()) / np.ptp(expected), atol=1e-4)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_kept_features_follow_images_side_and_augmentation(source, target, tmp_path):
    image = keras.Input((8, 8, 1))
    model, both = keras.Model(image, keras.layers.Flatten()(image)), {"source": "crop", "target": "crop"}
    for domains, augmentation, seed, files in (
        ((source, target), {}, 0, 2),
        ((source, dataclasses.replace(target, fingerprint="another")), {}, 0, 3),
        ((target, target), both, 0, 5),
        ((target, target), {**both, "target": "crop,flip"}, 1, 7),
        # Images without a fingerprint are not told from others.
        ((source, dataclasses.replace(target, fingerprint="")), {}, 0, 7),
    ):
        options = {"features_model": model, "augmentation": augmentation, "seed": seed}
        kept = build_values(*domains, cache=str(tmp_path), **options)
        np.testing.assert_array_equal(kept, build_values(*domains, **options))
        assert len(list(tmp_path.iterdir())) == files


def test_uniform(source, target, caplog):
    matrix = build_cost_matrix(source, target, "uniform")
    np.testing.assert_array_equal(matrix.values, [[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    assert (matrix.metric, matrix.parameters, matrix.data) == ("uniform", {}, {}) and not caplog.records
    build_cost_matrix(source, dataclasses.replace(target, class_names=tuple("xyz")), "uniform")
    assert "the costs by 'uniform' are all equal" in caplog.records[0].getMessage()


def test_text_reads_the_class_table(source, target, caplog):
    source = dataclasses.replace(source, class_table=DESCRIPTIONS)
    described = dataclasses.replace(target, class_table=DESCRIPTIONS)
    matrix = build_cost_matrix(source, described, "text", centring="none")
    assert matrix.nearest(1) == {"1": ["1"], "2": ["2"], "7": ["1"]}
    assert matrix.parameters["described_target_classes"] == 3 and not caplog.records
    bare = dataclasses.replace(target, class_table={name: {"class": name} for name in DESCRIPTIONS})
    assert build_cost_matrix(source, bare, "text").parameters["described_target_classes"] == 0
    assert "3 of 3 target classes have no description in the class table, '1'" in caplog.records[0].getMessage()


def test_taxonomy_by_columns_or_by_parents(source, target, tmp_path):
    table, parents = tmp_path / "classes.csv", tmp_path / "parents.csv"
    table.write_text("digit,shape\n" + "".join(f"{name},{row['shape']}\n" for name, row in DESCRIPTIONS.items()))
    parents.write_text("child,parent\n0,round\n3,round\n1,straight\n7,straight\n2,bent\n")
    for options in ({"taxonomy": "columns:shape", "class_table": str(table)}, {"taxonomy": str(parents)}):
        values = build_values(source, target, "taxonomy", centring="none", **options)
        # 1 and 7 are straight: 2 edges; other shapes 4; the same class 0.
        np.testing.assert_allclose(values * 4, [[4, 4, 4], [0, 4, 2], [4, 0, 4], [4, 4, 4]])
    with pytest.raises(InputError, match="`cost_class_table` must have a row for each source class, .* without '0'"):
        build_cost_matrix(source, target, "taxonomy", taxonomy="columns:shape")
    with pytest.raises(InputError, match="`cost_taxonomy` must be columns:NEAR,FAR, .* Received: 'shape'"):
        build_cost_matrix(source, target, "taxonomy", taxonomy="shape")


def test_a_combination_is_the_weighted_sum_of_its_parts(source, target, tmp_path):
    path, squares = tmp_path / "a+b.csv", np.arange(12.0).reshape(4, 3) ** 2
    # A file is put in the order of the domains.
    CostMatrix(squares[::-1], source.class_names[::-1], target.class_names).save(path)
    matrix = build_cost_matrix(source, target, f"2*text+0.5*{path}")
    expected = 2.0 * build_values(source, target, "text") + 0.5 * standardize(squares)
    expected -= expected.min()
    np.testing.assert_allclose(matrix.values, expected / expected.max(), rtol=1e-5, atol=1e-6)
    assert [(part["name"], part["weight"]) for part in matrix.parameters["parts"]] == [("text", 2), (str(path), 0.5)]


def test_the_shuffled_control_moves_every_row(source, target):
    plain = build_values(source, target, "wasserstein", images_per_class=2)
    shuffled = build_cost_matrix(source, target, "shuffled:wasserstein", seed=3, images_per_class=2)
    assert sorted(map(tuple, shuffled.values)) == sorted(map(tuple, plain))
    assert not (shuffled.values == plain).all(axis=1).any()
    assert shuffled.metric == "shuffled:wasserstein" and shuffled.parameters["shuffle_seed"] == 3


def test_a_file_is_used_with_the_images_and_the_backbone_that_it_was_built_from(source, target, tmp_path):
    # Another draw of the target labels.
    other_target = load_domain("builtin:optdigits?classes=1,2,7&per_class=5", image_size=8, seed=1)
    path = str(tmp_path / "cost.npz")
    built = build_cost_matrix(source, target, "mkmmd", backbone="small_cnn")
    built.save(path)
    again = build_cost_matrix(source, target, path, backbone="small_cnn")
    np.testing.assert_array_equal(again.values, built.values)
    wrong_images = "must be built from the target training images of this run: 15 images of .*Received: 15 images"
    with pytest.raises(InputError, match=wrong_images):
        build_cost_matrix(source, other_target, path, backbone="small_cnn")
    with pytest.raises(InputError, match="backbone of this run, 'alexnet'. Received: one by 'small_cnn'. Hint: "):
        build_cost_matrix(source, target, path, backbone="alexnet")
    # A combination is bound by its parts.
    build_cost_matrix(source, target, f"{path}+text", backbone="small_cnn").save(path)
    with pytest.raises(InputError, match=wrong_images):
        build_cost_matrix(source, other_target, path, backbone="small_cnn")
    # A spreadsheet holds no provenance, and names fit any images.
    built.save(tmp_path / "cost.csv")
    build_cost_matrix(source, other_target, str(tmp_path / "cost.csv"), backbone="alexnet")


def test_a_file_that_is_transposed_or_in_another_unit_is_told(source, target, tmp_path, caplog):
    path = tmp_path / "cost.csv"
    costs = np.arange(12.0).reshape(4, 3)
    for is_transposed in (False, True):
        names = (source.class_names, target.class_names)[:: -1 if is_transposed else 1]
        CostMatrix(costs.T if is_transposed else costs, *names).save(path)
        caplog.clear()
        with caplog.at_level("WARNING", logger="absl"):
            matrix = build_cost_matrix(source, target, str(path))
        np.testing.assert_allclose(matrix.values, costs / 11, rtol=1e-6)
        assert matrix.parameters["divided_by"] == 11 and "costs up to 11" in caplog.text
        assert ("it was transposed" in caplog.text) == is_transposed
    # What was scaled by another statistic is in the unit that was asked for.
    build_cost_matrix(source, target, "text", scale="mean").save(tmp_path / "cost.npz")
    assert build_cost_matrix(source, target, str(tmp_path / "cost.npz")).values.max() > 1


def test_online_costs_of_class_means(source, target):
    cost = CostConfig(matrix="online", refresh_steps=10)
    means = np.eye(4)
    matrix = build_online_costs(source, target, means, means[[1, 2, 0]] * 0.8 + 0.05, cost)
    assert matrix.nearest(1) == {"1": ["1"], "2": ["2"], "7": ["0"]}
    assert matrix.metric == "online" and matrix.values.min() == 0 and matrix.values.max() == 1
    means[3] = np.nan
    values = build_online_costs(source, target, means, means[[1, 2, 0]], cost).values
    # A class of which no image has been seen is as near to one class as to another.
    np.testing.assert_allclose(values[3], values[3, 0], atol=1e-6)
    assert values[3].min() > values[:3].min() and values[3].max() < values[:3].max()
    np.testing.assert_array_equal(build_online_costs(source, target, np.nan * means, means[:3], cost).values, 0)


@pytest.mark.parametrize(
    ("metric", "options", "message"),
    [
        ("text", {"text": "no.vec"}, "`cost_text` must name an existing file or folder. Received: 'no.vec'"),
        ("online", {"refresh_steps": 1}, "`metric` must be a file or one of auto, class_means, .* Received: 'online'"),
        (CostConfig(), {"scale": "std"}, "`options` must be empty with a `CostConfig`. Received: scale"),
        ("text", {"augmentation": {"sources": "crop"}}, "`augmentation` must have the keys source and .*'sources'"),
    ],
)
def test_arguments_that_do_not_fit(source, target, metric, options, message):
    with pytest.raises(InputError, match=message):
        build_cost_matrix(source, target, metric, **options)
