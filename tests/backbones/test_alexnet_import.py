import pickle
import re
import struct
import subprocess
import sys
import time
import zipfile

import keras
import numpy as np
import pytest

from jtln_tf.backbones import build_backbone, import_alexnet_weights
from jtln_tf.backbones.importers.caffe_dump import read_caffe_dump
from jtln_tf.config import InputError, MissingInputError
from tests import reference
from tests.conftest import REPOSITORY

RNG = np.random.default_rng(0)
SMALL = {
    "conv1": [RNG.normal(size=(3, 3, 3, 4)).astype("<f4"), RNG.normal(size=4).astype(">f4")],
    "fc6": [np.asfortranarray(RNG.normal(size=(5, 6))), RNG.normal(size=6).astype(">f8")],
}
SHAPES = {
    "conv1": (11, 11, 3, 96),
    "conv2": (5, 5, 48, 256),
    "conv3": (3, 3, 256, 384),
    "conv4": (3, 3, 192, 384),
    "conv5": (3, 3, 192, 256),
    "fc6": (9216, 4096),
    "fc7": (4096, 4096),
    "fc8": (4096, 1000),
}


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes the way Python 2 does, whose `str` is both."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_text(self, text):
        data = text.encode("latin1") if isinstance(text, str) else text
        is_short = len(data) < 256
        self.write(pickle.SHORT_BINSTRING if is_short else pickle.BINSTRING)
        self.write(struct.pack("<B" if is_short else "<i", len(data)) + data)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_text


def write_npy(path, content, header="{'descr': '|O', 'fortran_order': False, 'shape': (), }"):
    header = header.ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content)
    return path


def write_dump(path, layers, style="python2"):
    array = np.array(layers, dtype=object)
    with path.with_suffix(".pickle").open("wb") as file:
        if style == "python2":
            Python2Pickler(file, 2, fix_imports=True).dump(array)
        else:
            pickle.dump(array, file, protocol=style, fix_imports=True)
    content = path.with_suffix(".pickle").read_bytes()
    path.with_suffix(".pickle").unlink()
    return write_npy(path, content)


class TestPlainDumps:
    @pytest.mark.parametrize("style", ["python2", 2, 3, 4])
    def test_arrays_of_every_order_come_as_they_were(self, style, tmp_path):
        found = read_caffe_dump(write_dump(tmp_path / "small.npy", SMALL, style))
        assert list(found) == list(SMALL)
        for name, arrays in SMALL.items():
            for array, expected in zip(found[name], arrays, strict=True):
                np.testing.assert_array_equal(array, expected)

    def test_what_numpy_itself_saves(self, tmp_path):
        np.save(tmp_path / "small.npy", SMALL, allow_pickle=True)
        np.testing.assert_array_equal(read_caffe_dump(tmp_path / "small.npy")["fc6"][0], SMALL["fc6"][0])

    def test_the_header_of_python_2(self, tmp_path):
        content = write_dump(tmp_path / "small.npy", SMALL).read_bytes()[128:]
        old = write_npy(tmp_path / "old.npy", content, "{'descr': 'O', 'fortran_order': False, 'shape': (), }")
        assert list(read_caffe_dump(old)) == list(SMALL)

    def test_pairs_that_are_arrays_of_objects(self, tmp_path):
        pair = np.empty(2, object)
        pair[:] = SMALL["conv1"]
        found = read_caffe_dump(write_dump(tmp_path / "pairs.npy", {"conv1": pair, "fc6": tuple(SMALL["fc6"])}))
        np.testing.assert_array_equal(found["conv1"][0], SMALL["conv1"][0])
        np.testing.assert_array_equal(found["fc6"][1], SMALL["fc6"][1])

    def test_npz(self, tmp_path):
        pairs = {f"{name}_weights": weights for name, (weights, _) in SMALL.items()}
        np.savez(tmp_path / "small.npz", **pairs, **{f"{name}_biases": biases for name, (_, biases) in SMALL.items()})
        found = read_caffe_dump(tmp_path / "small.npz")
        for name, pair in SMALL.items():
            np.testing.assert_array_equal(found[name][0], pair[0])
            np.testing.assert_array_equal(found[name][1], pair[1])


class Calls:
    """Pickles to a call of a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class Stateful:
    """Pickles to an array whose state is set to something else."""

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        return (*np.empty(0).__reduce__()[:2], self.state)


FLOAT = np.dtype("<f4")
LATIN1 = b"X\x06\x00\x00\x00latin1"


def nested_tuples(depth):
    """Pickle of a dict whose key is a tuple that doubles at each level: hashing it would take 2 ** depth steps."""
    content = b"\x80\x02}K\x01\x85q\x00"
    for _ in range(depth):
        content += b"h\x00\x86q\x00"
    return content + b"K\x01s."


def nested_lists(depth):
    """Pickle of a list that doubles at each level: its text would have 2 ** depth parts."""
    content = b"\x80\x02]q\x00"
    for level in range(depth):
        content += b"]" + pickle.BINPUT + bytes([level % 2 + 1]) + b"(h\x00h\x00e" + pickle.BINPUT + b"\x00"
    return content + b"."


HOSTILE = {
    "a global of os": (pickle.dumps(Calls(__import__("os").system, "touch owned"), 2), "'posix.system'"),
    "eval": (pickle.dumps(Calls(eval, "open('owned', 'w')"), 2), "'__builtin__.eval'"),
    "eval of protocol 4": (pickle.dumps(Calls(eval, "open('owned', 'w')"), 4), "'builtins.eval'"),
    "a global by text": (b"cos\nsystem\n(S'touch owned'\ntR.", "'os.system'"),
    "a nested attribute": (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "'numpy.ndarray.tofile'"),
    "an object of old": (b"(S'touch owned'\nios\nsystem\n.", "the opcode STRING"),
    "an instance": (b"(ios\nsystem\n.", "the opcode INST"),
    "a new object": (b"\x80\x02cnumpy\nndarray\n)\x81.", "the opcode NEWOBJ"),
    "a persistent id": (b"Pid\n.", "the opcode PERSID"),
    "an extension": (b"\x80\x02\x82\x01.", "the opcode EXT1"),
    "a global that is no name": (b"\x80\x04K\x01K\x02\x93.", "asks for no name"),
    "a call of a number": (b"\x80\x02K\x01)R.", "calls a int"),
    "a call without arguments": (b"\x80\x02cnumpy\nndarray\n]R.", "calls a Global"),
    "an array by its class": (b"\x80\x02cnumpy\nndarray\n(K\x01tR.", "calls numpy.ndarray in another way"),
    "another encoding": (b"\x80\x02c_codecs\nencode\nU\x01aU\x03rot\x86R.", "calls _codecs.encode"),
    "encoding no text": (b"\x80\x02c_codecs\nencode\nK\x01" + LATIN1 + b"\x86R.", "an array made of a int"),
    "the state of a dict": (b"\x80\x02}(K\x01tb.", "sets the state of a dict"),
    "a state that is a dict": (pickle.dumps(Stateful({"__array_interface__": 1}), 2), "sets the state of a ArrayStub"),
    "a short state": (pickle.dumps(Stateful((1, (2,))), 2), "sets the state of a ArrayStub"),
    "a state set twice": (
        pickle.dumps(np.zeros(2, "f4"), 2)[:-1] + b"(K\x01K\x02\x85NNNtb.",
        "sets the state of a ArrayStub",
    ),
    "no shape": (pickle.dumps(Stateful((1, "ab", FLOAT, False, b"")), 4), "an array without a proper shape"),
    "a negative shape": (pickle.dumps(Stateful((1, (-1, 2), FLOAT, False, b"")), 4), "without a proper shape"),
    "a huge side": (pickle.dumps(Stateful((1, (2**62,), FLOAT, False, b"")), 4), "without a proper shape"),
    "a huge shape": (
        pickle.dumps(Stateful((1, (2**39, 2**39), FLOAT, False, b"1234")), 2),
        f"4 bytes for {2**78} numbers of float32",
    ),
    "too few bytes": (pickle.dumps(Stateful((1, (2,), FLOAT, False, b"1234")), 2), "4 bytes for 2 numbers"),
    "too many bytes": (pickle.dumps(Stateful((1, (2,), FLOAT, False, b"1" * 12)), 2), "12 bytes for 2 numbers"),
    "no type": (pickle.dumps(Stateful((1, (1,), "f4", False, b"1234")), 2), "without an element type"),
    "integers": (pickle.dumps({"conv1": np.arange(3)}, 2), "of type 'i8', not float32 or float64"),
    "text": (pickle.dumps({"conv1": np.array(["a"])}, 2), "of type 'U1', not float32"),
    "a structure": (pickle.dumps({"conv1": np.zeros(2, [("x", "f4")])}, 2), "of type 'V4', not float32"),
    "a table of objects": (pickle.dumps(np.array([[1, None]], object), 2), "array of objects that is no list"),
    "a list for numbers": (pickle.dumps(Stateful((1, (1,), FLOAT, False, [1.5])), 2), "the opcode BINFLOAT"),
    "appending to a dict": (b"\x80\x02}K\x01a.", "appends to a dict"),
    "items of a list": (b"\x80\x02]K\x01K\x02s.", "sets items of a list"),
    "a tuple as key": (nested_tuples(200), "a dict with a tuple as key"),
    "too long": (b"\x80\x02" + b"N" * 10_001 + b".", "more than 10000 opcodes"),
    "one text for many arrays": (
        b"\x80\x02X\xa0\x0f\x00\x00" + b"a" * 4000 + b"q\x00" + b"c_codecs\nencode\nh\x00U\x06latin1\x86R" * 2 + b".",
        "arrays that are larger than the file",
    ),
}
DAMAGED = {
    "nothing": b"",
    "no end": pickle.dumps(np.array(SMALL, dtype=object), 2)[:-40],
    "a text longer than the file": b"\x80\x02T\xff\xff\xff\x7fabc.",
    "an empty stack": b"\x80\x02.",
    "no mark": b"\x80\x02K\x01t.",
    "no list": b"\x80\x02a.",
    "an unknown memory": b"\x80\x02h\x07.",
    "odd items": b"\x80\x02}(X\x01\x00\x00\x00au.",
    "letters beyond latin1": b"\x80\x02c_codecs\nencode\nX\x03\x00\x00\x00\xe2\x82\xac" + LATIN1 + b"\x86R.",
}


class TestHostileDumps:
    @pytest.mark.parametrize("case", HOSTILE)
    def test_what_is_more_than_arrays_is_named_and_not_done(self, case, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        content, message = HOSTILE[case]
        path = write_npy(tmp_path / "hostile.npy", content)
        with pytest.raises(InputError, match="`input` must hold plain arrays, and nothing else. Received: ") as caught:
            read_caffe_dump(path)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 + len(str(path))
        assert not (tmp_path / "owned").exists()

    @pytest.mark.parametrize("case", DAMAGED)
    def test_a_damaged_file_is_told(self, case, tmp_path):
        path = write_npy(tmp_path / "damaged.npy", DAMAGED[case])
        with pytest.raises(InputError, match="`input` must be a whole .npy or .npz file. Received: ") as caught:
            read_caffe_dump(path)
        assert "\n" not in str(caught.value)

    def test_every_cut_of_a_file_is_told(self, tmp_path):
        content = write_dump(tmp_path / "whole.npy", SMALL).read_bytes()
        for length in range(0, len(content), 7):
            (tmp_path / "cut.npy").write_bytes(content[:length])
            with pytest.raises(InputError, match="`input` must"):
                read_caffe_dump(tmp_path / "cut.npy")

    def test_no_change_of_a_byte_gets_further_than_a_refusal(self, tmp_path):
        layers = {"a": [np.ones((2, 2), "f4"), np.ones(2, "f4")]}
        content = write_dump(tmp_path / "whole.npy", layers).read_bytes()
        refused, path = 0, tmp_path / "changed.npy"
        for position in range(128, len(content)):
            changed = bytearray(content)
            changed[position] ^= 0x55
            path.write_bytes(changed)
            try:
                layers = read_caffe_dump(path)
            except InputError:
                refused += 1
            else:
                assert all(isinstance(array, np.ndarray) for arrays in layers.values() for array in arrays)
        assert refused > 100

    @pytest.mark.parametrize("mask", [0x01, 0x55, 0xFF])
    @pytest.mark.parametrize("suffix", [".npy", ".npz"])
    def test_no_change_of_a_byte_of_a_header_gives_another_error(self, suffix, mask, tmp_path):
        path = tmp_path / f"changed{suffix}"
        if suffix == ".npz":
            np.savez_compressed(path, a_weights=np.ones((2, 2), "f4"), a_biases=np.ones(2, "f4"))
        else:
            write_dump(path, {"a": [np.ones((2, 2), "f4"), np.ones(2, "f4")]})
        content, refused = path.read_bytes(), 0
        for position in range(len(content) if suffix == ".npz" else 128):
            changed = bytearray(content)
            changed[position] ^= mask
            path.write_bytes(changed)
            try:
                read_caffe_dump(path)
            except InputError as error:
                assert "\n" not in str(error)
                refused += 1
        assert refused > 40

    def test_lists_within_lists_are_refused_at_once(self, tmp_path):
        started = time.process_time()
        with pytest.raises(InputError, match="`input` must hold a dict of layers. Received: .* with a list"):
            read_caffe_dump(write_npy(tmp_path / "lists.npy", nested_lists(200)))
        assert time.process_time() - started < 1

    def test_an_array_that_holds_itself(self, tmp_path):
        # _reconstruct(ndarray, (0,), "b"), then a state whose only object is that array.
        start = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87Rq\x00"
        objects = b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
        state = b"(K\x01)" + objects + b"\x89]h\x00atb."
        with pytest.raises(InputError, match="a dict of layers. Received: .* with a ArrayStub"):
            read_caffe_dump(write_npy(tmp_path / "itself.npy", start + state))

    @pytest.mark.parametrize(
        "layers",
        [{"conv1": np.ones(2)}, {"conv1": [np.ones(2)]}, {"conv1": [np.ones(2), "b"]}, {"conv1": None}, {"conv1": {}}],
    )
    def test_layers_without_both_arrays(self, layers, tmp_path):
        with pytest.raises(InputError, match="weights and one of biases for each layer. Received: .*'conv1'"):
            read_caffe_dump(write_dump(tmp_path / "parts.npy", layers))


class TestOtherFiles:
    def test_a_plain_array(self, tmp_path):
        np.save(tmp_path / "plain.npy", np.ones(3))
        with pytest.raises(InputError, match="`input` must hold a dict of layers. Received: .* with a ndarray"):
            read_caffe_dump(tmp_path / "plain.npy")

    def test_no_such_file(self, tmp_path):
        with pytest.raises(MissingInputError, match="`input` must name an existing file"):
            read_caffe_dump(tmp_path / "none.npy")

    def test_a_pickle_within_npz_is_not_read(self, tmp_path):
        np.savez(tmp_path / "objects.npz", conv1_weights=np.array([None]), conv1_biases=np.ones(1))
        with pytest.raises(InputError, match="must be a whole .npy or .npz file.*allow_pickle=False"):
            read_caffe_dump(tmp_path / "objects.npz")

    def test_names_within_npz(self, tmp_path):
        np.savez(tmp_path / "names.npz", conv1=np.ones(1))
        with pytest.raises(InputError, match="named LAYER_weights and LAYER_biases, not 'conv1'"):
            read_caffe_dump(tmp_path / "names.npz")
        np.savez(tmp_path / "half.npz", conv1_weights=np.ones(1))
        with pytest.raises(InputError, match="weights and one of biases for each layer"):
            read_caffe_dump(tmp_path / "half.npz")

    @pytest.mark.parametrize("dtype", ["S4", "U2", "i4", "u1", "?", "f2", "c8", "M8[s]", "f4,i4"])
    @pytest.mark.parametrize("suffix", [".npy", ".npz"])
    def test_arrays_of_other_types(self, dtype, suffix, tmp_path):
        path, array = tmp_path / f"other{suffix}", np.zeros(2, dtype)
        if suffix == ".npz":
            np.savez(path, conv1_weights=np.ones(2, "f4"), conv1_biases=array)
        else:
            write_dump(path, {"conv1": [np.ones(2, "f4"), array]})
        # Of a pickle, most types are refused before.
        told = "must have arrays of float32 or float64. Received: .* for 'conv1'" if suffix == ".npz" else "must"
        with pytest.raises(InputError, match=f"`input` {told}"):
            read_caffe_dump(path)

    def test_a_small_file_that_unpacks_to_a_large_one(self, tmp_path, monkeypatch):
        monkeypatch.setattr("jtln_tf.backbones.importers.caffe_dump._MOST_BYTES", 2**20)
        with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("conv1_weights.npy", bytes(2**21))
        with pytest.raises(InputError, match="it unpacks to more than 1 MiB"):
            read_caffe_dump(tmp_path / "bomb.npz")

    def test_a_file_that_is_too_large(self, tmp_path):
        with (tmp_path / "large.npy").open("wb") as file:
            file.truncate(2**30 + 1)
        with pytest.raises(InputError, match="`input` must have at most 1024 MiB. Received: .*large.npy"):
            read_caffe_dump(tmp_path / "large.npy")


def tiny_alexnet(**changes):
    """Arrays of AlexNet's convolutions, and of its dense layers none: what is wrong before them is told first."""
    layers = {
        name: [np.zeros(shape, "f4"), np.zeros(shape[-1:], "f4")] for name, shape in SHAPES.items() if name[0] == "c"
    }
    layers |= {name: [np.zeros((2, 3), "f4"), np.zeros(3, "f4")] for name in ("fc6", "fc7", "fc8")}
    return {name: arrays for name, arrays in (layers | changes).items() if arrays is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv2": None, "fc7": None}, "the layers conv1, .*fc7, and may have fc8. Received: .* with no conv2, no fc7"),
        ({"fc9": [np.zeros(1), np.zeros(1)]}, "Received: .* with also 'fc9'"),
        (
            {"conv2": [np.zeros((5, 5, 96, 256)), np.zeros(256)]},
            r"weights of shape \[5, 5, 48, 256\] for conv2. Received: .* with \[5, 5, 96, 256\]",
        ),
        (
            {"conv3": [np.zeros(SHAPES["conv3"]), np.zeros(3)]},
            r"biases of shape \[384\] for conv3. Received: .* with \[3\]",
        ),
        ({"conv4": [np.zeros(SHAPES["conv4"]), np.full(384, np.nan)]}, "finite biases for conv4"),
        ({}, r"weights of shape \[9216, 4096\] for fc6. Received: .* with \[2, 3\]"),
    ],
)
def test_what_is_not_alexnet_is_told_and_nothing_written(changes, message, tmp_path):
    dump = write_dump(tmp_path / "dump.npy", tiny_alexnet(**changes))
    with pytest.raises(InputError, match=message):
        import_alexnet_weights(dump, tmp_path / "out.weights.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["dump.npy"]


def program(*arguments):
    command = [sys.executable, "-m", "tools.import_alexnet_weights", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input=none.npy", "--output=a.weights.h5"], "error: `input` must name an existing file"),
        (["--input={dump}", "--output=a.h5"], "error: `output` must be a .weights.h5 file. Received: 'a.h5'"),
        (["--input={dump}", "--output={there}"], "error: `output` must not exist. .*Hint: --overwrite"),
    ],
)
def test_flags_are_checked_before_tensorflow_is_loaded(flags, message, tmp_path):
    dump, there = tmp_path / "dump.npy", tmp_path / "there.weights.h5"
    dump.touch()
    there.touch()
    result = program(*(flag.format(dump=dump, there=there) for flag in flags))
    assert result.returncode == 2 and "TensorFlow" not in result.stderr
    assert len(result.stderr.splitlines()) == 1 and re.match(message, result.stderr)


@pytest.mark.slow
def test_the_imported_network_computes_what_caffe_defines(tmp_path):
    blobs = {}
    for name, (*inputs, outputs) in SHAPES.items():
        # As Caffe has them: outputs first, channels before height and width; scaled so that no layer fades.
        scale = np.float32(np.sqrt(2 / np.prod(inputs)))
        weights = RNG.standard_normal((outputs, inputs[-1], *inputs[:-1]), "f4") * scale
        blobs[name] = weights, RNG.normal(0, 0.5, outputs).astype("f4")
    layers = {name: [(w.transpose(2, 3, 1, 0) if w.ndim == 4 else w.T), b] for name, (w, b) in blobs.items()}
    # Caffe flattens channels, height, width; the converters height, width, channels.
    layers["fc6"][0] = blobs["fc6"][0].reshape(4096, 256, 6, 6).transpose(2, 3, 1, 0).reshape(9216, 4096)
    dump, weights = write_dump(tmp_path / "bvlc_alexnet.npy", layers), tmp_path / "alexnet.weights.h5"
    result = program(f"--input={dump}", f"--output={weights}")
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alexnet.weights.h5", "bvlc_alexnet.npy"]

    image = RNG.integers(0, 256, (227, 227, 3)).astype("f4")
    backbone = build_backbone("alexnet", (227, 227, 3), weights=str(weights))
    expected = reference.caffe_alexnet(image, blobs)
    names = ["conv1", "norm1", "pool2", "conv4", "pool5", "fc7"]
    found = keras.Model(backbone.input, [backbone.get_layer(name).output for name in names])(image[None])
    for name, actual in zip(names, found, strict=True):
        actual = actual.numpy()[0]
        actual = actual.transpose(2, 0, 1) if actual.ndim == 3 else actual
        assert expected[name].std() > 0.1
        # float32 sums of up to 9216 terms.
        np.testing.assert_allclose(actual, expected[name], rtol=1e-3, atol=1e-3 * expected[name].std())
    with pytest.raises(InputError, match=r"`weights` must fit.*fc6.*Hint: .* at another image size than 128 x 128 pix"):
        build_backbone("alexnet", (128, 128, 3), weights=str(weights))
