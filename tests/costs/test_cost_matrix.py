import json
import os
import pathlib
import zlib

import numpy as np
import ot
import pytest
import reference
from scipy.optimize import linear_sum_assignment

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.costs import (
    CostMatrix,
    double_centre,
    dual_centre,
    load_cost_matrix,
    scale,
    uniform_cost,
)

VALUES = np.array([[0.0, 0.25, 1.0], [0.5, 1 / 3, 0.125]], "float32")
SOURCES, TARGETS = ("cat", "dog"), ("lynx", "wolf", "fox")
ODD_NAMES = ("Käse, jung", 'say "ah"', "数字\n7", " 'x' = 1; ", "=SUM(A1)")


def build(**changes):
    return CostMatrix(**{"values": VALUES, "source_classes": SOURCES, "target_classes": TARGETS, **changes})


def test_values_are_float32():
    assert build(values=VALUES.astype("float64")).values.dtype == np.float32
    np.testing.assert_array_equal(build(values=VALUES.tolist()).values, VALUES)


@pytest.mark.parametrize("shape", [(3, 2), (2, 2), (6,), (2, 3, 1)])
def test_shape_that_does_not_fit_the_names(shape):
    with pytest.raises(InputError, match=r"\[num_source_classes, num_target_classes\] = \[2, 3\]. Received: shape"):
        build(values=np.zeros(shape))


@pytest.mark.parametrize(("value", "meaning"), [(np.nan, "finite"), (np.inf, "finite"), (-0.5, "not negative")])
def test_entry_that_is_no_cost_names_its_classes(value, meaning):
    values = VALUES.copy()
    values[1, 2] = value
    with pytest.raises(
        InputError, match=f"must be {meaning}. Received: {value} for source class 'dog', target .*'fox'"
    ):
        build(values=values)


def test_class_named_twice():
    with pytest.raises(InputError, match="each source class once. Received: 'cat' repeatedly"):
        build(source_classes=("cat", "cat"))
    with pytest.raises(InputError, match="each target class once. Received: 'fox' repeatedly"):
        build(target_classes=("fox", "wolf", "fox"))


def test_align_puts_the_names_in_order():
    aligned = build(metric="file", parameters={"k": 1}).align(["dog", "cat"], ["fox", "lynx", "wolf"])
    np.testing.assert_array_equal(aligned.values, VALUES[[1, 0]][:, [2, 0, 1]])
    assert aligned.source_classes == ("dog", "cat") and aligned.target_classes == ("fox", "lynx", "wolf")
    assert aligned.metric == "file" and aligned.parameters == {"k": 1}
    np.testing.assert_array_equal(aligned.align(SOURCES, TARGETS).values, VALUES)


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        (("cat", "cow"), TARGETS, "the 2 source classes .* Received: 2 names, missing 'cow', unknown 'dog'"),
        (("cat",), TARGETS, "the 1 source classes of the data. Received: 2 names, unknown 'dog'"),
        (SOURCES, (*TARGETS, "bear"), "the 4 target classes of the data. Received: 3 names, missing 'bear'"),
        (SOURCES, tuple("abcde"), "missing 'a', 'b', 'c' and 2 more, unknown 'lynx', 'wolf', 'fox'"),
        (("Cat", "dog"), TARGETS, "missing 'Cat', unknown 'cat'"),
    ],
)
def test_align_refuses_other_names(sources, targets, message):
    with pytest.raises(InputError, match=message):
        build().align(sources, targets)


def test_nearest_source_classes_of_each_target_class():
    assert build().nearest(1) == {"lynx": ["cat"], "wolf": ["cat"], "fox": ["dog"]}
    assert build().nearest(9) == {"lynx": ["cat", "dog"], "wolf": ["cat", "dog"], "fox": ["dog", "cat"]}


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
@pytest.mark.parametrize("names", [SOURCES, ODD_NAMES])
def test_save_and_load(tmp_path, suffix, names):
    values = np.random.default_rng(0).uniform(size=(len(names), 3)).astype("float32")
    path = tmp_path / f"cost{suffix}"
    before = CostMatrix(values, names, TARGETS, "mkmmd", {"images_per_class": 5})
    before.save(path)
    before.save(str(path))
    after = load_cost_matrix(path)
    # Nine digits tell any float32 from its neighbours.
    np.testing.assert_array_equal(after.values, values)
    assert after.values.dtype == np.float32
    assert after.source_classes == names and after.target_classes == TARGETS
    assert all(type(name) is str for name in after.source_classes)
    if suffix == ".npz":
        assert after.metric == "mkmmd" and after.parameters == {"images_per_class": 5}
    assert os.listdir(tmp_path) == [path.name]


def test_csv_as_a_spreadsheet_writes_it(tmp_path):
    path = tmp_path / "cost.csv"
    path.write_bytes('\ufeff,lynx,"wolf, gray"\r\ncat,0,0.25\r\n"d""og",1,1e-3\r\n\r\n'.encode())
    matrix = load_cost_matrix(str(path))
    assert matrix.source_classes == ("cat", 'd"og') and matrix.target_classes == ("lynx", "wolf, gray")
    np.testing.assert_array_equal(matrix.values, np.array([[0, 0.25], [1, 1e-3]], "float32"))


def test_csv_without_line_feed_at_its_end(tmp_path):
    path = tmp_path / "cost.csv"
    path.write_text(",a\nb,1")
    np.testing.assert_array_equal(load_cost_matrix(path).values, [[1]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",a,b\nc,1,2\nd,3\n", r"must have 3 fields a row. Received: 2 for 'd'. File: '.*cost.csv'"),
        (",a,b\nc,1,2,3\n", "must have 3 fields a row. Received: 4 for 'c'"),
        (",a,b\nc,1,near\n", "must hold numbers. Received: 'near' for source class 'c', target class 'b'"),
        (",a,b\nc,1,\n", "must hold numbers. Received: '' for source class 'c', target class 'b'"),
        (",a,b\nc,1,nan\n", "must be finite. Received: nan for source class 'c', target class 'b'. File: "),
        (",a,b\nc,-1,0\n", "must be not negative. Received: -1.0 for source class 'c', target class 'a'. File: "),
        (",a,a\nc,1,0\n", "must name each target class once. Received: 'a' repeatedly. File: "),
        ("", "must be a cost matrix file"),
        (b"\xff\xfe,a\nb,1\n", "must be a cost matrix file"),
        (b"\x00\x01\x02", "separated by commas. Received: 0 rows after"),
    ],
)
def test_csv_that_is_no_cost_matrix(tmp_path, text, message):
    path = tmp_path / "cost.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        load_cost_matrix(path)


@pytest.mark.parametrize("text", [",\n", "source \\ target\n", ";a;b\nc;1;2\nd;3;4\n", ",a,b\n"])
def test_csv_without_a_cost(tmp_path, text):
    path = tmp_path / "cost.csv"
    path.write_text(text)
    with pytest.raises(InputError, match="must have target classes in its first row, .* commas. Received: .*cost.csv"):
        load_cost_matrix(path)


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_missing_file(tmp_path, suffix):
    with pytest.raises(MissingInputError, match="must name an existing file. Received: '.*nothing"):
        load_cost_matrix(tmp_path / f"nothing{suffix}")
    with pytest.raises(FileNotFoundError):
        load_cost_matrix(tmp_path / f"nothing{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(MissingInputError, match="must name an existing file"):
        load_cost_matrix(tmp_path / f"folder{suffix}")


@pytest.mark.parametrize("name", ["cost.npy", "cost", "cost.npz.bak"])
def test_wrong_suffix(tmp_path, name):
    with pytest.raises(InputError, match="must end in .npz or .csv. Received: "):
        build().save(tmp_path / name)
    assert not os.listdir(tmp_path)
    (tmp_path / name).write_text("")
    with pytest.raises(InputError, match="must be a .npz or .csv file. Received: "):
        load_cost_matrix(tmp_path / name)


def test_pickled_objects_are_refused(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    path = tmp_path / "cost.npz"
    names = np.empty(2, object)
    names[:] = [Harmful(), "dog"]
    np.savez(path, values=VALUES, source_classes=names, target_classes=np.array(TARGETS))
    with pytest.raises(InputError, match="must be a cost matrix file. Received: '.*cost.npz'"):
        load_cost_matrix(path)
    assert os.listdir(tmp_path) == ["cost.npz"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_npz(tmp_path, share):
    path = tmp_path / "cost.npz"
    build().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="must be a cost matrix file. Received: '.*cost.npz'"):
        load_cost_matrix(path)


def test_damaged_compressed_npz(tmp_path):
    path = tmp_path / "cost.npz"
    np.savez_compressed(path, values=np.tile(VALUES, (200, 1)), source_classes=[], target_classes=[])
    content = bytearray(path.read_bytes())
    start = content.index(b"values.npy") + len(b"values.npy")
    content[start + 30 : start + 60] = b"\xff" * 30
    path.write_bytes(content)
    with pytest.raises(InputError, match="must be a cost matrix file"):
        load_cost_matrix(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": None}, "values"),
        ({"target_classes": None}, "target_classes"),
        ({"values": np.array([["a", "b", "c"], ["d", "e", "f"]])}, "could not convert"),
        ({"values": VALUES.T}, r"must have shape .* = \[2, 3\]. Received: shape \[3, 2\]. File: "),
        ({"provenance": np.array("no json")}, "must be a cost matrix file"),
        ({"provenance": np.array(json.dumps(["a", "list"]))}, "must be a cost matrix file"),
    ],
)
def test_npz_that_is_no_cost_matrix(tmp_path, changes, message):
    path = tmp_path / "cost.npz"
    content = {"values": VALUES, "source_classes": np.array(SOURCES), "target_classes": np.array(TARGETS), **changes}
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    with pytest.raises(InputError, match=message):
        load_cost_matrix(path)


def test_npz_of_another_program_needs_no_provenance(tmp_path):
    path = tmp_path / "cost.npz"
    np.savez(path, values=VALUES.astype("float64"), source_classes=list(SOURCES), target_classes=list(TARGETS))
    matrix = load_cost_matrix(path)
    assert matrix.source_classes == SOURCES and matrix.metric == "unknown" and matrix.parameters == {}


@pytest.mark.parametrize("fails", ["write_bytes", "replace"])
@pytest.mark.parametrize("name", ["cost.npz", "cost.csv"])
def test_failed_save_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch, fails, name):
    def write_half(path, content):
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    def refuse(*paths):
        raise OSError(28, "No space left on device")

    path = tmp_path / name
    build().save(path)
    before = path.read_bytes()
    if fails == "replace":
        monkeypatch.setattr(os, "replace", refuse)
    else:
        monkeypatch.setattr(pathlib.Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="No space left"):
        build(values=2 * VALUES).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [name]


def test_same_matrix_gives_the_same_file(tmp_path):
    for name in ("one.npz", "two.npz"):
        build(parameters={"b": 1, "a": 2}).save(tmp_path / name)
    one, two = (dict(np.load(tmp_path / name)) for name in ("one.npz", "two.npz"))
    assert {key: zlib.crc32(value.tobytes()) for key, value in one.items()} == {
        key: zlib.crc32(value.tobytes()) for key, value in two.items()
    }


def test_uniform_cost():
    cost = uniform_cost(("a", "b", "c"), ("b", "d", "a"))
    np.testing.assert_array_equal(cost, [[1, 1, 0], [0, 1, 1], [1, 1, 1]])
    assert cost.dtype == np.float32


def test_double_centre():
    values = np.random.default_rng(0).uniform(size=(5, 7))
    centred = double_centre(values)
    np.testing.assert_allclose(centred.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(centred.mean(axis=1), 0, atol=1e-15)
    np.testing.assert_allclose(centred, reference.double_centre(values), atol=1e-15)
    shifted = values + np.arange(5)[:, None] - 3 * np.arange(7)[None]
    # Rounding of numbers up to 20.
    np.testing.assert_allclose(double_centre(shifted), centred, atol=1e-13)


EPSILON = 0.03


def draw_values(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape)


def reduce_by_pot(values):
    """The double-centred values in [0, 1] less the potentials that POT finds for uniform weights; mean 0."""
    centred = reference.double_centre(values)
    scaled = (centred - centred.min()) / np.ptp(centred)
    weights = [np.full(count, 1 / count) for count in scaled.shape]
    options = {"method": "sinkhorn_log", "log": True, "stopThr": 1e-10, "numItermax": 20_000}
    _, log = ot.sinkhorn(*weights, scaled, EPSILON, **options)
    reduced = scaled - EPSILON * (log["log_u"][:, None] + log["log_v"][None])
    return reduced - reduced.mean()


@pytest.mark.parametrize("shape", [(2, 2), (5, 7), (7, 5), (26, 10), (10, 62)])
@pytest.mark.parametrize("reduce", [reduce_by_pot, reference.dual_centre])
def test_dual_centre_agrees_with_other_solvers(shape, reduce):
    values = draw_values(*shape)
    reduced = dual_centre(values)
    assert reduced.shape == shape and reduced.dtype == np.float64
    # Stops at an error of 1 % of a class's share, where the potentials are a fraction of epsilon from their limit.
    np.testing.assert_allclose(reduced, reduce(values), rtol=0, atol=EPSILON / 3)
    np.testing.assert_allclose(reduced.mean(), 0, atol=1e-15)


@pytest.mark.parametrize("shape", [(4, 4), (10, 10), (5, 7), (7, 5), (3, 40)])
def test_plan_of_the_dual_centred_values_gives_each_class_its_share(shape):
    for seed in range(5):
        reduced = dual_centre(draw_values(*shape, seed=seed))
        plan = np.exp(-reduced / EPSILON)
        plan /= plan.sum()
        # Each of the two orders of updates leaves one side exact and the other within 1 %.
        for axis, count in ((1, shape[0]), (0, shape[1])):
            np.testing.assert_allclose(plan.sum(axis=axis) * count, 1, rtol=0, atol=0.02)


def test_dual_centre_treats_source_and_target_alike():
    for shape in ((5, 5), (4, 9)):
        values = draw_values(*shape)
        np.testing.assert_allclose(dual_centre(values.T), dual_centre(values).T, rtol=0, atol=1e-12)


def test_dual_centre_finds_the_assignment_that_nearest_classes_miss():
    # Column 0 is nearest to row 0, which comes next cheapest by column 1; row 1 has no other.
    values = np.array([[0.0, 0.1, 0.9], [0.1, 0.6, 0.8], [0.9, 0.8, 0.3]])
    np.testing.assert_array_equal(values.argmin(axis=1), [0, 0, 2])
    np.testing.assert_array_equal(dual_centre(values).argmin(axis=1), [1, 0, 2])
    np.testing.assert_array_equal(dual_centre(values).argmin(axis=0), [1, 0, 2])


def test_dual_centre_agrees_with_clear_assignments():
    missed = {"plain": 0, "double": 0}
    for seed in range(60):
        values = draw_values(4, 4, seed=seed)
        rows, columns = linear_sum_assignment(values)
        # Clear: forbidding any pair of the assignment costs well over epsilon times the range.
        best, second = values[rows, columns].sum(), np.inf
        for row in rows:
            other = values.copy()
            other[row, columns[row]] = 10.0
            second = min(second, other[linear_sum_assignment(other)].sum())
        if second - best < 0.25:
            continue
        np.testing.assert_array_equal(dual_centre(values).argmin(axis=1), columns)
        np.testing.assert_array_equal(dual_centre(values).argmin(axis=0), np.argsort(columns))
        missed["plain"] += np.any(values.argmin(axis=1) != columns)
        missed["double"] += np.any(double_centre(values).argmin(axis=1) != columns)
    assert missed["plain"] >= 5 and missed["double"] >= 2


def test_dual_centre_of_fewer_target_classes_gives_each_several_source_classes():
    # All rows are nearest to column 0, the last two by less.
    values = np.array([[0.0, 0.5], [0.0, 0.6], [0.0, 0.2], [0.0, 0.1]])
    np.testing.assert_array_equal(dual_centre(values).argmin(axis=1), [0, 0, 1, 1])


@pytest.mark.parametrize("shape", [(5, 5), (5, 7)])
def test_dual_centre_does_not_see_constants_of_classes_or_the_unit(shape):
    values = draw_values(*shape)
    reduced = dual_centre(values)
    shifted = values + np.arange(shape[0])[:, None] - 3 * np.arange(shape[1])[None]
    # Rounding of numbers up to 20, grown by up to thousands of updates.
    np.testing.assert_allclose(dual_centre(shifted), reduced, rtol=0, atol=1e-9)
    for unit in (1e-3, 30.0, 1e6):
        np.testing.assert_allclose(dual_centre(unit * values), reduced, rtol=0, atol=1e-9)


def test_dual_centre_follows_the_order_of_the_classes():
    values, rows, columns = draw_values(5, 7), [2, 0, 4, 3, 1], [6, 1, 0, 5, 2, 4, 3]
    expected = dual_centre(values)[rows][:, columns]
    np.testing.assert_allclose(dual_centre(values[rows][:, columns]), expected, rtol=0, atol=1e-12)


def test_dual_centre_of_integers_leaves_them():
    values = np.array([[3, 1, 4], [1, 5, 9]])
    before = values.copy()
    np.testing.assert_array_equal(dual_centre(values), dual_centre(values.astype("float64")))
    np.testing.assert_array_equal(values, before)


# One row or column, and constant values: nothing tells the classes apart.
@pytest.mark.parametrize(
    "values", [draw_values(1, 4), draw_values(4, 1), [[7.0]], np.full((3, 4), 0.1), np.full((7, 3), 1e9 / 3)]
)
def test_dual_centre_of_nothing_to_choose_is_zero(values):
    reduced = dual_centre(values)
    np.testing.assert_allclose(reduced, 0, atol=1e-15)
    np.testing.assert_array_equal(scale(reduced), 0)


def test_dual_centre_ends_where_the_potentials_do_not_settle():
    # Kernels of exp(-100,000) next to 1.
    reduced = dual_centre(draw_values(6, 6), epsilon=1e-5)
    assert np.isfinite(reduced).all() and abs(reduced.mean()) < 1e-12


def test_scale_spans_0_to_1():
    values = np.random.default_rng(0).normal(size=(5, 7)) * 30 - 100
    scaled = scale(values)
    assert scaled.min() == 0 and scaled.max() == 1
    np.testing.assert_allclose(scaled * np.ptp(values) + values.min(), values, rtol=1e-12)


@pytest.mark.parametrize("values", [np.full((2, 3), 5.0), np.zeros((2, 3)), 3.0 + 1e-16 * np.arange(6).reshape(2, 3)])
def test_scale_of_equal_values_is_zero(values):
    np.testing.assert_array_equal(scale(values), np.zeros((2, 3)))
