"""Follows a pickle of plain arrays, lists and dicts of them, without running anything that it says.

A pickle is a program: unpickling a stranger's file may do anything. Here its opcodes are only listed, by
`pickletools.genops`, and followed on a stack that knows the few that such values need. No name is looked up.
"""

import math
import pickletools
from typing import NamedTuple

import numpy as np

# The dump of AlexNet has about 400: what a file may make the reader do is bounded by its length.
_MOST_OPCODES = 10_000
_MOST_DIMENSIONS = 32
_MOST_ELEMENTS = 2**40
_MARK = object()


class PlainPickleError(ValueError):
    """A pickle that holds more than plain values; the text says what, after "a pickle"."""


def read_plain_pickle(content):
    """Returns what a pickle stands for, with `ArrayStub` for its arrays.

    Args:
        content: Bytes of a pickle of protocol 2 to 4, of Python 2 or 3.

    Returns:
        A dict, list, tuple, text, bytes, number, None, or `ArrayStub`, which the containers may hold in turn.

    Raises:
        PlainPickleError: If the pickle asks for anything else.
        ValueError, LookupError: If it is cut off or damaged.
    """
    machine = _Machine(len(content))
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if number == _MOST_OPCODES:
            raise PlainPickleError(f"of more than {_MOST_OPCODES} opcodes")
        if opcode.name not in _STEPS:
            raise PlainPickleError(f"with the opcode {opcode.name}")
        _STEPS[opcode.name](machine, argument)
    return machine.pop(1)[0]


class ArrayStub:
    """An array of the pickle.

    Attributes:
        content: NumPy array of float32 or float64; for an array of objects the list of them, or the only one.
    """

    content = None


class _TypeStub:
    """The element type of an array: its kind, such as `f4`, and its byte order, such as `<`."""

    def __init__(self, kind):
        self.kind, self.order = kind, None


class _Global(NamedTuple):
    """A name that a pickle asks for. It stays a name."""

    module: str
    name: str


class _Machine:
    def __init__(self, most_bytes):
        self._stack, self._memo = [], {}
        # One text, remembered as the content of many arrays, would fill the memory.
        self._bytes_left = most_bytes

    def push(self, value):
        self._stack.append(value)

    def pop(self, count):
        """Takes the last values off the stack."""
        if count > len(self._stack):
            raise IndexError("the stack of the pickle is empty")
        start = len(self._stack) - count
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def pop_to_mark(self):
        """Takes the values off the stack that came after the last mark, and the mark."""
        marks = [position for position, value in enumerate(self._stack) if value is _MARK]
        if not marks:
            raise IndexError("the stack of the pickle has no mark")
        return self.pop(len(self._stack) - marks[-1])[1:]

    def memorize(self, position):
        self._memo[len(self._memo) if position is None else position] = self._top()

    def remember(self, position):
        self.push(self._memo[position])

    def extend(self, values):
        """Appends to the list on the stack."""
        if type(self._top()) is not list:
            raise PlainPickleError(f"that appends to a {_kind(self._top())}")
        self._top().extend(values)

    def set_items(self, values):
        """Puts keys and values into the dict on the stack."""
        if type(self._top()) is not dict:
            raise PlainPickleError(f"that sets items of a {_kind(self._top())}")
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Nothing but text: hashing a tuple of tuples of tuples takes for ever.
            if type(key) is not str:
                raise PlainPickleError(f"of a dict with a {_kind(key)} as key")
            self._top()[key] = value

    def push_global(self, module, name):
        found = _Global(module, name) if type(module) is type(name) is str else None
        if found not in _GLOBALS:
            raise PlainPickleError(f"that asks for {f'{module}.{name}'[:80]!r}" if found else "that asks for no name")
        self.push(found)

    def call(self):
        """Makes an empty array, an element type, or bytes."""
        function, arguments = self.pop(2)
        if type(function) is not _Global or type(arguments) is not tuple:
            raise PlainPickleError(f"that calls a {_kind(function)}")
        if function.name == "_reconstruct" and arguments[:1] == (_NDARRAY,):
            self.push(ArrayStub())
        elif function.name == "dtype" and arguments and type(arguments[0]) is str:
            self.push(_TypeStub(arguments[0]))
        elif function.name == "encode" and len(arguments) == 2 and arguments[1] in ("latin1", "latin-1"):
            self.push(self._encode(arguments[0]))
        else:
            raise PlainPickleError(f"that calls {function.module}.{function.name} in another way than NumPy does")

    def build(self):
        """Gives the array, or the element type, on the stack what it still lacks, once."""
        (state,), unfinished = self.pop(1), self._top()
        length = len(state) if type(state) is tuple else 0
        if type(unfinished) is _TypeStub and unfinished.order is None and length in (8, 9):
            unfinished.order = state[1]
        elif type(unfinished) is ArrayStub and unfinished.content is None and length == 5:
            unfinished.content = self._content(*state[1:])
        else:
            raise PlainPickleError(f"that sets the state of a {_kind(unfinished)}")

    def _top(self):
        if not self._stack:
            raise IndexError("the stack of the pickle is empty")
        return self._stack[-1]

    def _content(self, shape, element_type, is_fortran, data):
        is_shape = type(shape) is tuple and len(shape) <= _MOST_DIMENSIONS
        if not is_shape or any(type(size) is not int or not 0 <= size < _MOST_ELEMENTS for size in shape):
            raise PlainPickleError("of an array without a proper shape")
        if type(element_type) is not _TypeStub:
            raise PlainPickleError("of an array without an element type")
        if element_type.kind in ("O", "O8"):
            # NumPy wraps a dict that is saved like an array; in some dumps also each pair of weights and biases.
            if type(data) is not list or len(shape) > 1 or len(data) != math.prod(shape):
                raise PlainPickleError("of an array of objects that is no list")
            return data if shape else data[0]
        if element_type.kind not in ("f4", "f8") or element_type.order not in ("<", ">"):
            raise PlainPickleError(f"of an array of type {str(element_type.kind)[:20]!r}, not float32 or float64")
        data = data if type(data) is bytes else self._encode(data)
        dtype, count = np.dtype(element_type.order + element_type.kind), math.prod(shape)
        if len(data) != count * dtype.itemsize:
            raise PlainPickleError(f"of an array of {len(data)} bytes for {count} numbers of {dtype}")
        return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran is True else "C")

    def _encode(self, text):
        if type(text) is not str:
            raise PlainPickleError(f"of an array made of a {_kind(text)}")
        self._bytes_left -= len(text)
        if self._bytes_left < 0:
            raise PlainPickleError("of arrays that are larger than the file")
        return text.encode("latin1")


def _kind(value):
    # Never the value itself: the text of a list of lists of lists may have no end.
    return type(value).__name__.lstrip("_")


_NDARRAY = _Global("numpy", "ndarray")
_GLOBALS = {
    _NDARRAY,
    _Global("numpy", "dtype"),
    # Python 3 writes bytes as text to be encoded, where Python 2 should be able to read them.
    _Global("_codecs", "encode"),
    _Global("numpy.core.multiarray", "_reconstruct"),
    _Global("numpy._core.multiarray", "_reconstruct"),
}
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1")
_TEXTS = ("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES")
_STEPS = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, argument: None),
    **dict.fromkeys((*_NUMBERS, *_TEXTS), lambda machine, argument: machine.push(argument)),
    "NONE": lambda machine, argument: machine.push(None),
    "NEWTRUE": lambda machine, argument: machine.push(True),
    "NEWFALSE": lambda machine, argument: machine.push(False),
    "MARK": lambda machine, argument: machine.push(_MARK),
    "EMPTY_TUPLE": lambda machine, argument: machine.push(()),
    "TUPLE1": lambda machine, argument: machine.push(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, argument: machine.push(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, argument: machine.push(tuple(machine.pop(3))),
    "TUPLE": lambda machine, argument: machine.push(tuple(machine.pop_to_mark())),
    "EMPTY_LIST": lambda machine, argument: machine.push([]),
    "APPEND": lambda machine, argument: machine.extend(machine.pop(1)),
    "APPENDS": lambda machine, argument: machine.extend(machine.pop_to_mark()),
    "EMPTY_DICT": lambda machine, argument: machine.push({}),
    "SETITEM": lambda machine, argument: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, argument: machine.set_items(machine.pop_to_mark()),
    "BINPUT": lambda machine, argument: machine.memorize(argument),
    "LONG_BINPUT": lambda machine, argument: machine.memorize(argument),
    "MEMOIZE": lambda machine, argument: machine.memorize(argument),
    "BINGET": lambda machine, argument: machine.remember(argument),
    "LONG_BINGET": lambda machine, argument: machine.remember(argument),
    # genops puts a blank between the two.
    "GLOBAL": lambda machine, argument: machine.push_global(*argument.partition(" ")[::2]),
    "STACK_GLOBAL": lambda machine, argument: machine.push_global(*machine.pop(2)),
    "REDUCE": lambda machine, argument: machine.call(),
    "BUILD": lambda machine, argument: machine.build(),
}
