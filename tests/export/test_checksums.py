import shutil

import pytest

from jtln_tf.export.checksums import find_damaged_file, write_checksums


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (lambda folder: (folder / "README.md").write_text("edited"), ""),
        (lambda folder: (folder / "1" / "graph.pb").write_bytes(b"graqh"), "1/graph.pb"),
        (lambda folder: (folder / "1" / "variables" / "data").unlink(), "1/variables/data"),
        (lambda folder: (folder / "1" / "more").write_text(""), "1/more"),
        (lambda folder: (folder / "SHA256SUMS").write_bytes(b"\xff"), "1/graph.pb"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "SHA256SUMS"),
        (lambda folder: [shutil.rmtree(folder / "1"), (folder / "SHA256SUMS").write_text("")], "1"),
    ],
)
def test_the_first_damaged_file_of_the_saved_model_is_named(tmp_path, harm, found):
    (tmp_path / "1" / "variables").mkdir(parents=True)
    for name in ("1/graph.pb", "1/variables/data", "README.md"):
        (tmp_path / name).write_bytes(b"graph")
    write_checksums(tmp_path)
    assert find_damaged_file(tmp_path) == ""
    harm(tmp_path)
    assert find_damaged_file(tmp_path) == found
