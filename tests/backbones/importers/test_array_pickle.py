"""Pickles that ask for more than arrays: each is refused, and nothing that it says is done."""

import pickle
import time

import numpy as np
import pytest

from jtln_tf.backbones.importers.array_pickle import UnplainPickleError, read_array_pickle

FLOAT = np.dtype("<f4")


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
    "a global of os": (b"\x80\x02cposix\nsystem\nU\x0btouch owned\x85R.", "'posix.system'"),
    "text of old": (b"(S'touch owned'\nios\nsystem\n.", OPCODE),
    "a new object": (b"\x80\x02cnumpy\nndarray\n)\x81.", OPCODE),
    "a call of a number": (b"\x80\x02K\x01)R.", CALL),
    "an array by its class": (b"\x80\x02cnumpy\nndarray\n(K\x01tR.", CALL),
    "a state that is a dict": (with_state({"__array_interface__": 1}), STATE),
    "a shape of texts": (with_state(1, ("ab", 2**30), FLOAT, False, b""), SHAPE),
    "a huge side": (with_state(1, (2**62,), FLOAT, False, b""), SHAPE),
    "a hundred sides": (with_state(1, (1,) * 100, FLOAT, False, b"1234"), SHAPE),
    "a huge shape": (with_state(1, (2**39, 2**39), FLOAT, False, b"1234"), BYTES),
    "too many bytes": (with_state(1, (2,), FLOAT, False, b"1" * 12), BYTES),
    "numbers for bytes": (with_state(1, (1,), FLOAT, False, [1]), BYTES),
    "integers": (pickle.dumps(np.arange(3), 2), "of type 'i8', not float32 or float64"),
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


def test_a_memory_position_beyond_all_takes_no_memory():
    # Python's unpickler written in C would fill 32 GiB with zeros here.
    assert read_array_pickle(b"\x80\x02Nr\x00\x00\x00\x80.") is None
