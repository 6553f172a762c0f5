import numpy as np
import pytest

from jtln_tf.backbones.importers import torch_file
from jtln_tf.backbones.importers.torch_file import read_torch_tensors
from tests.backbones.importers.dumps import write_torch

RNG = np.random.default_rng(0)
TENSORS = {
    "conv.weight": RNG.normal(size=(2, 3, 4, 5)).astype("<f4"),
    # Weights that came from TensorFlow stand in its order.
    "turned.weight": RNG.normal(size=(4, 5, 2, 3)).astype("<f4").transpose(3, 2, 0, 1),
    "num_batches_tracked": np.array(7, "<i8"),
}


def test_tensors_come_as_they_were(tmp_path):
    found = read_torch_tensors(write_torch(tmp_path / "a.pth", TENSORS))
    assert list(found) == list(TENSORS)
    for name, expected in TENSORS.items():
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)


def change(content, old, new):
    assert content.count(old) >= 1 and len(old) == len(new)
    return content.replace(old, new, 1)


# The first tensor: 120 numbers with the shape (2, 3, 4, 5) and the strides (60, 20, 5, 1).
SHAPE = b"(K\x02K\x03K\x04K\x05t"
WRONG = {
    "a global": (lambda content: change(content, b"torch._utils", b"os.path.join"), "asks for 'os.path.join"),
    "a call by a number": (
        lambda content: change(content, b"ccollections\nOrderedDict\n", b"M\x01\x00" + b"q\x09" * 11),
        "call",
    ),
    "a call of NumPy's": (
        lambda content: content.replace(b"ctorch\nFloatStorage", b"cnumpy\nndarray"),
        "numpy.ndarray",
    ),
    "another reference": (lambda content: change(content, b"storage", b"STORAGE"), "something else than a storage"),
    "a longer shape": (lambda content: change(content, SHAPE, SHAPE.replace(b"\x02", b"\x09")), "larger than its"),
    "a longer stride": (lambda content: change(content, b"K<K\x14", b"K\xffK\x14"), "larger than its storage"),
    "a longer storage": (lambda content: change(content, b"cpuq\x00Kx", b"cpuq\x00Ky"), "120 numbers where 121"),
    "a missing storage": (
        lambda content: change(content, b"\x01\x00\x00\x001q\x02", b"\x01\x00\x00\x007q\x02"),
        "list",
    ),
    "another state": (lambda content: change(content, b"_metadata", b"__class__"), "sets a state"),
    "half of it": (lambda content: content[:-40], "cut off"),
    "more": (lambda content: content + b"more", "4 bytes too many"),
    "another format": (lambda content: content[15:], "not of the older format"),
    "a bomb": (lambda content: content + bytes(2**20), "more than 1 MiB"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_more_or_less_than_tensors_is_refused(case, tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file, "_MOST_BYTES", 2**20)
    path = write_torch(tmp_path / "a.pth", TENSORS)
    wrong, message = WRONG[case]
    path.write_bytes(wrong(path.read_bytes()))
    with pytest.raises(Exception, match=message):
        read_torch_tensors(path)


def test_half_precision_is_refused(tmp_path):
    with pytest.raises(ValueError, match="asks for 'torch.HalfStorage'"):
        read_torch_tensors(write_torch(tmp_path / "a.pth", {"a": np.ones(3, "f2")}))
