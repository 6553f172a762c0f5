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


def write_npz(path, layers):
    parts = {"weights": 0, "biases": 1}.items()
    np.savez(path, **{f"{name}_{part}": pair[i] for name, pair in layers.items() for part, i in parts})
    return path.with_name("dump.npy.npz")


def write_odd_pairs(path, layers):
    pair = np.empty(2, object)
    pair[:] = layers["conv1"]
    return write_dump(path, {"conv1": pair, "fc6": tuple(layers["fc6"])})


@pytest.mark.parametrize("write", [write_dump, write_odd_pairs, write_npz, 2, 3, 4])
def test_arrays_of_every_order_come_as_they_were(write, tmp_path):
    options = () if callable(write) else (write,)
    found = read_caffe_dump((write if callable(write) else write_dump)(tmp_path / "dump.npy", SMALL, *options))
    assert list(found) == list(SMALL)
    for array, expected in zip(sum(found.values(), ()), sum(SMALL.values(), []), strict=True):
        np.testing.assert_array_equal(array, expected)


def nested_lists(depth):
    """Pickle of a list that doubles at each level: its text would have no end."""
    levels = (b"]q" + bytes([1 + level % 2]) + b"(h\x00h\x00eq\x00" for level in range(depth))
    return b"\x80\x02]q\x00" + b"".join(levels) + b"."


ONE, LAYERS = np.ones(1, "f4"), "must hold weights and biases, arrays of float32 or float64, for each layer. .* for 'a'"
WRONG = {
    "no biases": (lambda path: write_dump(path, {"a": [ONE]}), LAYERS),
    "a text": (lambda path: write_dump(path, {"a": [ONE, "b"]}), LAYERS),
    "integers": (lambda path: np.savez(path, a_weights=ONE, a_biases=np.ones(1, int)), LAYERS),
    "a structure": (lambda path: np.savez(path, a_weights=ONE, a_biases=np.ones(1, "f4,i4")), LAYERS),
    "half a pair": (lambda path: np.savez(path, a_weights=ONE), LAYERS),
    "other names": (lambda path: np.savez(path, conv1=ONE), "named LAYER_weights and LAYER_biases, not 'conv1'"),
    "a pickle in npz": (lambda path: np.savez(path, a_weights=np.array([None])), "a whole .npy or .npz.*allow_pickle="),
    "a plain array": (lambda path: np.save(path, ONE), "a dict of .* a ndarray"),
    "lists in lists": (lambda path: write_npy(path, nested_lists(200)), "a dict of layers. Received: .* with a list"),
    "a bomb": (lambda path: np.savez_compressed(path, a_weights=np.zeros(2**18)), "it unpacks to more than 1 MiB"),
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


@pytest.mark.parametrize("mask", [None, 0x01, 0xFF])
@pytest.mark.parametrize("write", [write_dump, write_npz])
def test_no_change_of_a_byte_and_no_cut_gives_another_error(write, mask, tmp_path):
    path = write(tmp_path / "dump.npy", {"a": [np.ones((2, 2), "f4"), ONE]})
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
