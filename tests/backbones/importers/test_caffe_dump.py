import zipfile

import numpy as np
import pytest

from jtln_tf.backbones.importers.caffe_dump import read_caffe_dump
from jtln_tf.config import InputError, MissingInputError
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


def test_what_numpy_itself_saves(tmp_path):
    np.save(tmp_path / "small.npy", SMALL, allow_pickle=True)
    check_small(read_caffe_dump(tmp_path / "small.npy"))


def test_the_header_of_python_2(tmp_path):
    content = write_dump(tmp_path / "small.npy", SMALL).read_bytes()[128:]
    header = "{'descr': 'O', 'fortran_order': False, 'shape': (), }"
    check_small(read_caffe_dump(write_npy(tmp_path / "old.npy", content, header)))


def test_pairs_that_are_tuples_or_arrays_of_objects(tmp_path):
    pair = np.empty(2, object)
    pair[:] = SMALL["conv1"]
    check_small(read_caffe_dump(write_dump(tmp_path / "a.npy", {"conv1": pair, "fc6": tuple(SMALL["fc6"])})))


def test_npz(tmp_path):
    arrays = {f"{name}_weights": weights for name, (weights, _) in SMALL.items()}
    np.savez(tmp_path / "small.npz", **arrays, **{f"{name}_biases": biases for name, (_, biases) in SMALL.items()})
    check_small(read_caffe_dump(tmp_path / "small.npz"))


@pytest.mark.parametrize("layers", [{"a": np.ones(2)}, {"a": [np.ones(2)]}, {"a": [np.ones(2), "b"]}, {"a": None}])
def test_layers_without_both_arrays(layers, tmp_path):
    with pytest.raises(InputError, match="weights and one of biases for each layer. Received: .*'a'"):
        read_caffe_dump(write_dump(tmp_path / "parts.npy", layers))


@pytest.mark.parametrize("dtype", ["U2", "i4", "f2", "M8[s]", "f4,i4"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_of_other_types(dtype, suffix, tmp_path):
    path, array = tmp_path / f"other{suffix}", np.zeros(2, dtype)
    if suffix == ".npz":
        np.savez(path, conv1_weights=np.ones(2, "f4"), conv1_biases=array)
    else:
        write_dump(path, {"conv1": [np.ones(2, "f4"), array]})
    # Most types in a pickle are refused earlier.
    told = "must have arrays of float32 or float64. Received: .* for 'conv1'" if suffix == ".npz" else "must"
    with pytest.raises(InputError, match=f"`input` {told}"):
        read_caffe_dump(path)


def test_lists_within_lists_are_refused_at_once(tmp_path):
    # A list that doubles at each of 200 levels: its text would have no end.
    content = b"\x80\x02]q\x00" + b"".join(
        b"]q" + bytes([1 + level % 2]) + b"(h\x00h\x00eq\x00" for level in range(200)
    )
    with pytest.raises(InputError, match="`input` must hold a dict of layers. Received: .* with a list"):
        read_caffe_dump(write_npy(tmp_path / "lists.npy", content + b"."))


def test_an_array_that_holds_itself(tmp_path):
    # _reconstruct(ndarray, (0,), "b"), then a state whose only object is that array.
    start = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87Rq\x00"
    objects = b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
    with pytest.raises(InputError, match="a dict of layers. Received: .* with a PickledArray"):
        read_caffe_dump(write_npy(tmp_path / "itself.npy", start + b"(K\x01)" + objects + b"\x89]h\x00atb."))


def test_a_call_in_the_pickle_is_told_in_one_line(tmp_path):
    path = write_npy(tmp_path / "hostile.npy", b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(InputError, match="plain arrays, and nothing else. Received: .* a pickle that asks for 'os.sys"):
        read_caffe_dump(path)


def test_every_cut_of_a_file_is_told(tmp_path):
    content = write_dump(tmp_path / "whole.npy", SMALL).read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "cut.npy").write_bytes(content[:length])
        with pytest.raises(InputError, match="`input` must"):
            read_caffe_dump(tmp_path / "cut.npy")


@pytest.mark.parametrize("mask", [0x01, 0x55, 0xFF])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_no_change_of_a_byte_gives_another_error(suffix, mask, tmp_path):
    path = tmp_path / f"changed{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, a_weights=ONES["a"][0], a_biases=ONES["a"][1])
    else:
        write_dump(path, ONES)
    content, refused = path.read_bytes(), 0
    for position in range(len(content)):
        changed = bytearray(content)
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


def test_a_plain_array(tmp_path):
    np.save(tmp_path / "plain.npy", np.ones(3))
    with pytest.raises(InputError, match="`input` must hold a dict of layers. Received: .* with a ndarray"):
        read_caffe_dump(tmp_path / "plain.npy")


def test_no_such_file(tmp_path):
    with pytest.raises(MissingInputError, match="`input` must name an existing file"):
        read_caffe_dump(tmp_path / "none.npy")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a_weights": np.array([None]), "a_biases": np.ones(1)}, "a whole .npy or .npz file.*allow_pickle=False"),
        ({"conv1": np.ones(1)}, "named LAYER_weights and LAYER_biases, not 'conv1'"),
        ({"conv1_weights": np.ones(1)}, "weights and one of biases for each layer"),
    ],
)
def test_what_is_wrong_within_npz(arrays, message, tmp_path):
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read_caffe_dump(tmp_path / "wrong.npz")


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path, monkeypatch):
    monkeypatch.setattr("jtln_tf.backbones.importers.caffe_dump._MOST_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conv1_weights.npy", bytes(2**21))
    with pytest.raises(InputError, match="it unpacks to more than 1 MiB"):
        read_caffe_dump(tmp_path / "bomb.npz")


def test_a_file_that_is_too_large(tmp_path):
    with (tmp_path / "large.npy").open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(InputError, match="`input` must have at most 1024 MiB. Received: .*large.npy"):
        read_caffe_dump(tmp_path / "large.npy")
