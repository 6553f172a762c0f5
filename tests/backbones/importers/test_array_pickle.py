"""Pickles that ask for more than arrays: each is refused, and nothing that it says is done."""

import pickle
import time

import numpy as np
import pytest

from jtln_tf.backbones.importers.array_pickle import UnplainPickleError, read_array_pickle

FLOAT = np.dtype("<f4")
LATIN1 = b"X\x06\x00\x00\x00latin1"


class Calls:
    """Pickles to a call of a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def with_state(*state):
    """Pickle of an array whose state is set to something else than NumPy's."""

    class Stateful:
        def __reduce__(self):
            return (*np.empty(0).__reduce__()[:2], state)

    return pickle.dumps(Stateful(), 4)


def nested_tuples(depth):
    """Pickle of a dict whose key is a tuple that doubles at each level: hashing it would take 2 ** depth steps."""
    content = b"\x80\x02}K\x01\x85q\x00"
    for _ in range(depth):
        content += b"h\x00\x86q\x00"
    return content + b"K\x01s."


CALL, STATE, ITEMS = (
    "makes a call which is not NumPy's",
    "sets a state which is not NumPy's",
    "sets items which are not",
)
OPCODE, SHAPE, BYTES = "an opcode that no dump", "without a proper shape", "whose bytes do not fit"
HOSTILE = {
    "a global of os": (pickle.dumps(Calls(__import__("os").system, "touch owned"), 2), "'posix.system'"),
    "eval": (pickle.dumps(Calls(eval, "open('owned', 'w')"), 4), "'builtins.eval'"),
    "a global by text": (b"cos\nsystem\n(S'touch owned'\ntR.", "'os.system'"),
    "a nested attribute": (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "'numpy.ndarray.tofile'"),
    "text of old": (b"(S'touch owned'\nios\nsystem\n.", OPCODE),
    "an instance": (b"(ios\nsystem\n.", OPCODE),
    "a new object": (b"\x80\x02cnumpy\nndarray\n)\x81.", OPCODE),
    "a persistent id": (b"Pid\n.", OPCODE),
    "an extension": (b"\x80\x02\x82\x01.", OPCODE),
    "a call of a number": (b"\x80\x02K\x01)R.", CALL),
    "a call of a text": (b"\x80\x02U\x04evalU\x011\x85R.", CALL),
    "an array by its class": (b"\x80\x02cnumpy\nndarray\n(K\x01tR.", CALL),
    "another encoding": (b"\x80\x02c_codecs\nencode\nU\x01aU\x03rot\x86R.", CALL),
    "encoding no text": (b"\x80\x02c_codecs\nencode\nK\x01" + LATIN1 + b"\x86R.", CALL),
    "a type made of another": (b"\x80\x02cnumpy\ndtype\ncnumpy\ndtype\nK\x01\x86\x85R.", CALL),
    "the state of a dict": (b"\x80\x02}(K\x01tb.", STATE),
    "the state of a name": (b"\x80\x02cnumpy\nndarray\n}b.", STATE),
    "a state that is a dict": (with_state({"__array_interface__": 1}), STATE),
    "a short state": (with_state(1, (2,)), STATE),
    "a shape of texts": (with_state(1, ("ab", 2**30), FLOAT, False, b""), SHAPE),
    "a negative shape": (with_state(1, (-1, 2), FLOAT, False, b""), SHAPE),
    "a huge side": (with_state(1, (2**62,), FLOAT, False, b""), SHAPE),
    "a hundred sides": (with_state(1, (1,) * 100, FLOAT, False, b"1234"), SHAPE),
    "a huge shape": (with_state(1, (2**39, 2**39), FLOAT, False, b"1234"), BYTES),
    "too few bytes": (with_state(1, (2,), FLOAT, False, b"1234"), BYTES),
    "too many bytes": (with_state(1, (2,), FLOAT, False, b"1" * 12), BYTES),
    "numbers for bytes": (with_state(1, (1,), FLOAT, False, [1]), BYTES),
    "no type": (with_state(1, (1,), "f4", False, b"1234"), STATE),
    "integers": (pickle.dumps(np.arange(3), 2), "of type 'i8', not float32 or float64"),
    "a structure": (pickle.dumps(np.zeros(2, [("x", "f4")]), 2), "of type 'V4', not float32"),
    "a table of objects": (pickle.dumps(np.array([[1, None]], object), 2), "of type 'O8', not float32"),
    "items of a list": (b"\x80\x02]K\x01K\x02s.", ITEMS),
    "a tuple as key": (nested_tuples(200), ITEMS),
    "too long": (b"\x80\x02" + b"N" * 10_001 + b".", "more than 10000 opcodes"),
    "one text for many arrays": (
        b"\x80\x02X\xa0\x0f\x00\x00" + b"a" * 4000 + b"q\x00" + b"c_codecs\nencode\nh\x00U\x06latin1\x86R" * 2 + b".",
        "arrays that are larger than the file",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_more_than_arrays_is_named_and_not_done(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, message = HOSTILE[case]
    started = time.process_time()
    with pytest.raises(UnplainPickleError) as caught:
        read_array_pickle(content)
    assert message in str(caught.value) and len(str(caught.value)) < 200
    assert not (tmp_path / "owned").exists()
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        pickle.dumps(np.ones(9), 2)[:-40],
        b"\x80\x02T\xff\xff\xff\x7fabc.",
        b"\x80\x02.",
        b"\x80\x02K\x01t.",
        b"\x80\x02a.",
        b"\x80\x02}K\x01a.",
        b"\x80\x02h\x07.",
        b"\x80\x04K\x01K\x02\x93.",
        b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00.",
        b"\x80\x02}(X\x01\x00\x00\x00au.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02c_codecs\nencode\nX\x03\x00\x00\x00\xe2\x82\xac" + LATIN1 + b"\x86R.",
    ],
)
def test_what_is_damaged_fails(content):
    with pytest.raises(Exception):  # noqa: B017 - with whatever Python's unpickler raises.
        read_array_pickle(content)


def test_a_memory_position_beyond_all_takes_no_memory():
    # Python's unpickler written in C would fill 32 GiB with zeros here.
    assert read_array_pickle(b"\x80\x02Nr\x00\x00\x00\x80.") is None
