import io
import json
import os
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.costs import matrix_files
from jtln_tf.costs.matrix import CostMatrix, load_cost_matrix

VALUES = np.array([[0.0, 0.25, 1.0], [0.5, 1 / 3, 0.125]], "float32")
SOURCES, TARGETS = ("cat", "dog"), ("lynx", "wolf", "fox")
ODD_NAMES = ("Käse, jung", 'say "ah"', "数字\n7", " 'x' = 1; ", "=SUM(A1)")


def build(**changes):
    return CostMatrix(**{"values": VALUES, "source_classes": SOURCES, "target_classes": TARGETS, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.zeros((3, 2))}, r"\[num_source_classes, num_target_classes\] = \[2, 3\]. Received: shape"),
        ({"values": [[0, 0, 0], [0, 0, np.nan]]}, "finite. Received: nan for source class 'dog', target class 'fox'"),
        ({"values": [[0, 0, 0], [-0.5, 0, 0]]}, "not negative. Received: -0.5 for source class 'dog', .* 'lynx'"),
        ({"values": np.zeros((2, 3), complex)}, "hold real numbers. Received: complex numbers"),
        ({"values": [[0, 0, 10**400], [0, 0, 0]]}, "hold real numbers. Received: int too large"),
        ({"values": [[0, 0, 1e300], [0, 0, 0]]}, r"finite. Received: 1e\+300 for source class 'cat'"),
        ({"source_classes": ("cat", "cat")}, "each source class once. Received: 'cat' repeatedly"),
    ],
)
def test_what_is_no_cost_matrix(changes, message):
    with pytest.raises(InputError, match=f"`cost_matrix` must .*{message}"):
        build(**changes)


def test_align_puts_the_names_in_order():
    aligned = build(metric="file", parameters={"k": 1}).align(["dog", "cat"], ["fox", "lynx", "wolf"])
    np.testing.assert_array_equal(aligned.values, VALUES[[1, 0]][:, [2, 0, 1]])
    assert aligned.source_classes == ("dog", "cat") and aligned.target_classes == ("fox", "lynx", "wolf")
    assert aligned.metric == "file" and aligned.parameters == {"k": 1}
    with pytest.raises(InputError, match="the 2 source classes .* Received: 2 names, missing 'cow', unknown 'dog'"):
        aligned.align(("cat", "cow"), TARGETS)


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
@pytest.mark.parametrize("names", [SOURCES, ODD_NAMES])
def test_save_and_load(tmp_path, suffix, names):
    values = np.random.default_rng(0).uniform(size=(len(names), 3)).astype("float32")
    path = tmp_path / f"cost{suffix}"
    before = CostMatrix(values, names, TARGETS, "mkmmd", {"k": 5}, "alexnet", {"source": {"images": 3}})
    before.save(path)
    after = load_cost_matrix(str(path))
    # Nine digits tell any float32 from its neighbours.
    np.testing.assert_array_equal(after.values, values)
    assert after.values.dtype == np.float32 and os.listdir(tmp_path) == [path.name]
    # Blanks around names do not count in a table.
    read = names if suffix == ".npz" else tuple(name.strip() for name in names)
    assert after.source_classes == read and after.align(names, TARGETS).source_classes == names
    if suffix == ".npz":
        assert (after.metric, after.parameters) == ("mkmmd", {"k": 5})
        assert (after.backbone, after.data) == ("alexnet", {"source": {"images": 3}})


@pytest.mark.parametrize(
    "text",
    [
        '\ufeff,lynx,"wolf, gray"\r\ncat,0,0.25\r\n"d""og",1,1e-3\r\n\r\n',
        '\n;;\nclass;lynx;wolf, gray;\n cat ;0;0,25;\n"d""og" ;100 %;0,1%;\n;;\n',
        # As R writes it: nothing stands in the corner.
        'lynx\t"wolf, gray"\ncat\t0\t.25\nd"og\t1\t1e-3',
        'target \\ source,cat,"d""og"\nlynx,0,1\n"wolf, gray",.25,.001\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_as_a_spreadsheet_writes_it(tmp_path, text, encoding):
    path = tmp_path / "cost.CSV"
    path.write_bytes(text.encode(encoding))
    matrix = load_cost_matrix(path)
    assert matrix.source_classes == ("cat", 'd"og') and matrix.target_classes == ("lynx", "wolf, gray")
    np.testing.assert_array_equal(matrix.values, np.float32([[0, 0.25], [1, 1e-3]]))


def test_names_are_nfc_and_a_transposed_matrix_is_put_right():
    matrix = CostMatrix(VALUES, ("Ka\u0308se", " dog "), TARGETS, data={"source": {"images": 1}})
    assert matrix.source_classes[0] == "K\u00e4se"
    aligned = matrix.align(("fox", "lynx", "wolf"), ("dog", "K\u00e4se"))
    np.testing.assert_array_equal(aligned.values, VALUES.T[[2, 0, 1]][:, ::-1])
    assert aligned.data == {"target": {"images": 1}} and aligned.source_classes == ("fox", "lynx", "wolf")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",a,b\nc,1,2\nd,3\n", r"must have 3 fields a row. Received: 2 for 'd'. File: '.*cost.csv'"),
        (",a,b\nc,1,near\n", "must hold numbers. Received: 'near' for source class 'c', target class 'b'"),
        (",a,b\nc,-1,0\n", "must be not negative. Received: -1.0 for source class 'c', target class 'a'. File: "),
        ("", "must have target classes in its first row, .* Received: 0 rows after ''. File: '.*cost.csv'"),
        ("cat,0,0.9\ndog,0.8,0.1\n", "target classes in its first row, .* Received: 1 rows after 'cat,0,0.9'"),
        ("0,1\n2,3\n", "target classes in its first row, .* Received: 1 rows after '0,1'"),
        (b"\xff\xfe,a\nb,1\n", "must be a UTF-8 table. Received: '.*cost.csv' .* Hint: save it as CSV UTF-8"),
        (",a,b\nc,1,2+1j\n", r"must hold numbers. Received: '2\+1j' for source class 'c', target class 'b'"),
        (",a,b\nc,1,1e400\n", "must be finite. Received: inf for"),
        (',a\nc,"1,234"\n', "must hold plain numbers. Received: '1,234' for .* Hint: 1,234 may be a thousand"),
        (";a;b\nc;1.5;0,5\n", "must have one decimal sign. Received: '1.5' for .* and '0,5' for .* 'b'"),
    ],
)
def test_csv_that_is_no_cost_matrix(tmp_path, text, message):
    path = tmp_path / "cost.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        load_cost_matrix(path)


def test_missing_files_and_other_suffixes(tmp_path):
    with pytest.raises(MissingInputError, match="must name an existing file. Received: '"):
        load_cost_matrix(tmp_path)
    with pytest.raises(InputError, match="must end in .npz or .csv. Received: "):
        build().save(tmp_path / "cost.npy")
    (tmp_path / "cost.npz.bak").write_text("")
    with pytest.raises(InputError, match="must be a .npz or .csv file. Received: "):
        load_cost_matrix(tmp_path / "cost.npz.bak")


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


def test_truncated_damaged_or_endless_npz(tmp_path):
    path = tmp_path / "cost.npz"
    np.savez_compressed(path, values=np.tile(VALUES, (200, 1)), source_classes=[], target_classes=[])
    content = path.read_bytes()
    start = content.index(b"values.npy") + len(b"values.npy")
    damaged = content[: start + 30] + b"\xff" * 30 + content[start + 60 :]
    for part in (b"", content[: len(content) // 2], content[:-1], damaged):
        path.write_bytes(part)
        with pytest.raises(InputError, match="must be a cost matrix file. Received: '.*cost.npz'"):
            load_cost_matrix(path)


@pytest.mark.parametrize(("shape", "num_bytes"), [((10**15, 2), 0), ((2**17, 2), 2**22), ((4, 4), 2**22), ((-1, 2), 0)])
def test_an_array_is_bounded_by_its_header(tmp_path, shape, num_bytes, monkeypatch):
    """Zeros shrink to a thousandth: nothing of them is read."""
    monkeypatch.setitem(matrix_files._MOST_BYTES, "values", 2**20)
    path, header = tmp_path / "cost.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name in ("values", "source_classes", "target_classes"):
            with file.open(f"{name}.npy", "w") as entry:
                entry.write(header.getvalue())
                for _ in range(num_bytes // 2**20 if name == "values" else 0):
                    entry.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(InputError, match="must have at most 1048576 bytes of values|another size than its header"):
        load_cost_matrix(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_many_names_take_linear_time():
    names = [f"class {number}" for number in range(100_000)]
    start = time.process_time()
    aligned = CostMatrix(np.arange(100_000)[:, None], names, ["x"]).align(names[::-1], ["x"])
    assert aligned.values[0, 0] == 99_999 and time.process_time() - start < 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": None}, "values"),
        ({"values": np.array([["a", "b", "c"], ["d", "e", "f"]])}, "could not convert"),
        (
            {"values": VALUES.T},
            r"must have shape .* = \[2, 3\]. Received: shape \[3, 2\]. Hint: it is transposed. File: ",
        ),
        *(
            ({"provenance": np.array(text)}, "must be a cost matrix file")
            for text in ("no json", "[1]", '{"data": {"source": "x"}}', '{"metric": 5}', "[" * 100_000)
        ),
        ({"provenance": np.array(json.dumps({"format": 3}))}, "must have format 2 or older. Received: format 3"),
    ],
)
def test_npz_that_is_no_cost_matrix(tmp_path, changes, message):
    path = tmp_path / "cost.npz"
    content = {"values": VALUES, "source_classes": np.array(SOURCES), "target_classes": np.array(TARGETS), **changes}
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    with pytest.raises(InputError, match=message):
        load_cost_matrix(path)
