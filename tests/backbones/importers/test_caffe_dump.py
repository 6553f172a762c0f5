import zipfile

import numpy as np
import pytest

from jtln_tf.backbones.importers.caffe_dump import read_caffe_dump
from jtln_tf.config import InputError
from tests.backbones.importers.dumps import write_dump, write_npy

RNG = np.random.default_rng(0)
SMALL = {
    "conv1": [RNG.normal(size=(3, 3, 3, 4)).astype("<f4"), RNG.normal(size=4).astype(">f4")],
    "fc6": [np.asfortranarray(RNG.normal(size=(5, 6))), RNG.normal(size=6).astype(">f8")],
}
ONES = {"a": [np.ones((2, 2), "f4"), np.ones(2, "f4")]}


def check_small(found):
    assert list(found) == list(SMALL)
    for name, arrays in SMALL.items():
        for array, expected in zip(found[name], arrays, strict=True):
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("style", ["python2", 2, 3, 4])
def test_arrays_of_every_order_come_as_they_were(style, tmp_path):
    check_small(read_caffe_dump(write_dump(tmp_path / "small.npy", SMALL, style)))


def test_pairs_that_are_tuples_or_arrays_of_objects(tmp_path):
    pair = np.empty(2, object)
    pair[:] = SMALL["conv1"]
    check_small(read_caffe_dump(write_dump(tmp_path / "a.npy", {"conv1": pair, "fc6": tuple(SMALL["fc6"])})))


def test_npz(tmp_path):
    arrays = {f"{name}_weights": weights for name, (weights, _) in SMALL.items()}
    np.savez(tmp_path / "small.npz", **arrays, **{f"{name}_biases": biases for name, (_, biases) in SMALL.items()})
    check_small(read_caffe_dump(tmp_path / "small.npz"))


def nested_lists(depth):
    """Pickle of a list that doubles at each level: its text would have no end."""
    levels = (b"]q" + bytes([1 + level % 2]) + b"(h\x00h\x00eq\x00" for level in range(depth))
    return b"\x80\x02]q\x00" + b"".join(levels) + b"."


ONE, LAYERS = np.ones(1, "f4"), "must hold weights and biases, arrays of float32 or float64, for each layer. .* for 'a'"
WRONG = {
    "no weights": (lambda path: write_dump(path, {"a": ONE}), LAYERS),
    "no biases": (lambda path: write_dump(path, {"a": [ONE]}), LAYERS),
    "a text": (lambda path: write_dump(path, {"a": [ONE, "b"]}), LAYERS),
    "integers": (lambda path: np.savez(path, a_weights=ONE, a_biases=np.ones(1, int)), LAYERS),
    "a structure": (lambda path: np.savez(path, a_weights=ONE, a_biases=np.ones(1, "f4,i4")), LAYERS),
    "half a pair": (lambda path: np.savez(path, a_weights=ONE), LAYERS),
    "other names": (lambda path: np.savez(path, conv1=ONE), "named LAYER_weights and LAYER_biases, not 'conv1'"),
    "a pickle in npz": (lambda path: np.savez(path, a_weights=np.array([None])), "a whole .npy or .npz.*allow_pickle="),
    "a plain array": (lambda path: np.save(path, ONE), "a dict of .* a ndarray"),
    "lists in lists": (lambda path: write_npy(path, nested_lists(200)), "a dict of layers. Received: .* with a list"),
    "a call": (lambda path: write_npy(path, b"cos\nsystem\n(S'a'\ntR."), "plain arrays, and nothing else. .*'os.sys"),
    "a large file": (lambda path: path.write_bytes(bytes(2**20 + 1)), "`input` must have at most 1 MiB. Received: "),
    "no file": (lambda path: None, "`input` must name an existing file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_dump_is_told_in_one_line(case, tmp_path, monkeypatch):
    monkeypatch.setattr("jtln_tf.backbones.importers.caffe_dump._MOST_BYTES", 2**20)
    write, message = WRONG[case]
    write(tmp_path / "dump.npy")
    with pytest.raises(InputError, match=message) as caught:
        read_caffe_dump(next(tmp_path.glob("dump.npy.npz"), tmp_path / "dump.npy"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mask", [None, 0x01, 0x55, 0xFF])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_no_change_of_a_byte_and_no_cut_gives_another_error(suffix, mask, tmp_path):
    path = tmp_path / f"changed{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, a_weights=ONES["a"][0], a_biases=ONES["a"][1])
    else:
        write_dump(path, ONES)
    content, refused = path.read_bytes(), 0
    for position in range(len(content)):
        changed = bytearray(content if mask else content[:position])
        if mask:
            changed[position] ^= mask
        path.write_bytes(changed)
        try:
            layers = read_caffe_dump(path)
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert all(isinstance(array, np.ndarray) for arrays in layers.values() for array in arrays)
    assert refused > 100


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path, monkeypatch):
    monkeypatch.setattr("jtln_tf.backbones.importers.caffe_dump._MOST_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conv1_weights.npy", bytes(2**21))
    with pytest.raises(InputError, match="it unpacks to more than 1 MiB"):
        read_caffe_dump(tmp_path / "bomb.npz")
