"""Reads plain values and arrays from a pickle without running what the pickle says.

A pickle is a program that may call any function. Python's own unpickler runs it here, cut down to the opcodes that
plain values need: a name stays a text and imports nothing, and the three calls that NumPy writes are made by hand.
"""

import io
import itertools
import math
import pickle
import pickletools

import numpy as np

MOST_DIMENSIONS = 32
_NAMES = {
    *(("numpy", "ndarray"), ("numpy", "dtype")),
    *(("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")),
    # Python 3 writes bytes as a call of this if Python 2 should be able to read them.
    ("_codecs", "encode"),
}
_PLAIN_OPCODES = (
    *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
    *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINBYTES, pickle.SHORT_BINBYTES),
    *(pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.BINUNICODE, pickle.SHORT_BINUNICODE),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_DICT),
    *(pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.GLOBAL, pickle.STACK_GLOBAL),
    *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.BINGET, pickle.LONG_BINGET, pickle.BINPERSID),
)


class UnplainPickleError(ValueError):
    """A pickle holds more than plain values and arrays; the text says what, after "a pickle"."""


class PickledArray:
    """An array: `content` is of float32 or float64; or the list of objects in it, or the only one without a list."""

    content = None


class _ElementType:
    kind = order = None


def read_array_pickle(content: bytes) -> object:
    """Returns the value of a pickle of protocol 2 to 4, of Python 2 or 3, with `PickledArray` for its arrays.

    Raises:
        UnplainPickleError: If the pickle asks for anything but plain values and arrays.
        Exception: Any other exception if it is damaged.
    """
    return _ArrayUnpickler(io.BytesIO(content)).load()


# The unpickler written in C sizes its memory by numbers in the file, and its opcodes cannot be taken away.
class PlainUnpickler(pickle._Unpickler):
    """Reads the next pickle of a file in memory: plain values, the names in `names`, and what the hooks make of them.

    A name comes as a text. A call of one goes to `call`, a state to `set_state` and what the pickle only refers to to
    `persistent_load`; each refuses what it does not know with an `UnplainPickleError`.
    """

    names: frozenset[tuple[str, str]] = frozenset()
    # A dump of AlexNet has about 400.
    most_opcodes = 10_000

    def __init__(self, file: io.BytesIO):
        start = file.tell()
        opcodes = itertools.islice(pickletools.genops(file), self.most_opcodes + 1)
        if sum(1 for _ in opcodes) > self.most_opcodes:
            raise UnplainPickleError(f"of more than {self.most_opcodes} opcodes")
        file.seek(start)
        super().__init__(file, encoding="latin1")

    def call(self, name: object, arguments: object) -> object:
        """Returns what stands for a call of `name`, which may be any plain value."""
        raise UnplainPickleError("that makes a call")

    def set_state(self, target: object, state: object) -> None:
        """Changes `target`, which may be any plain value, as `state` says."""
        raise UnplainPickleError("that sets a state")

    def persistent_load(self, reference: object) -> object:
        """Returns what stands for something outside the pickle."""
        raise UnplainPickleError("that refers to something outside")

    def find_class(self, module, name):
        """Returns the name itself."""
        if (module, name) not in self.names:
            raise UnplainPickleError(f"that asks for {f'{module[:40]}.{name[:40]}'!r}")
        return name

    def load_reduce(self):
        """Replaces a name and its arguments by what `call` returns."""
        arguments = self.stack.pop()
        self.stack[-1] = self.call(self.stack[-1], arguments)

    def load_build(self):
        """Hands a state to `set_state`."""
        state = self.stack.pop()
        self.set_state(self.stack[-1], state)

    def load_setitem(self):
        """Sets an item of a dict."""
        self._set_items([self.stack.pop(-2), self.stack.pop()])

    def load_setitems(self):
        """Sets items of a dict."""
        self._set_items(self.pop_mark())

    def _set_items(self, items):
        keys, values = items[::2], items[1::2]
        # Hashing a tuple of tuples of tuples takes for ever.
        if type(self.stack[-1]) is not dict or not all(type(key) is str for key in keys):
            raise UnplainPickleError("that sets items which are not a dict's, with a text as key")
        self.stack[-1].update(zip(keys, values, strict=True))

    def _refuse(self):
        raise UnplainPickleError("with an opcode that no dump of arrays has")

    dispatch = dict.fromkeys(range(256), _refuse)
    dispatch |= {opcode[0]: pickle._Unpickler.dispatch[opcode[0]] for opcode in _PLAIN_OPCODES}
    dispatch |= {pickle.REDUCE[0]: load_reduce, pickle.BUILD[0]: load_build}
    dispatch |= {pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems}


class _ArrayUnpickler(PlainUnpickler):
    """Makes the three calls that NumPy writes."""

    names = _NAMES

    def __init__(self, file):
        super().__init__(file)
        # One text, encoded again and again, would fill the memory.
        self._bytes_left = len(file.getbuffer())

    def call(self, name, arguments):
        """Makes an empty array, an element type, or bytes."""
        match name, arguments:
            case "_reconstruct", ("ndarray", *_):
                return PickledArray()
            case "dtype", (str(kind), *_):
                element_type = _ElementType()
                element_type.kind = kind
                return element_type
            case "encode", (str(text), "latin1" | "latin-1"):
                return self._encode(text)
        raise UnplainPickleError("that makes a call which is not NumPy's")

    def set_state(self, target, state):
        """Gives an array its content, or an element type its byte order."""
        match target, state:
            case _ElementType() as element_type, (int(), "<" | ">" | "|" as order, *_):
                element_type.order = order
            case PickledArray() as array, (int(), tuple(shape), _ElementType() as element_type, is_fortran, data):
                array.content = self._content(shape, element_type, is_fortran is True, data)
            case _:
                raise UnplainPickleError("that sets a state which is not NumPy's")

    def _content(self, shape, element_type, is_fortran, data):
        # Sizes are limited too: the product of many long numbers takes long.
        if len(shape) > MOST_DIMENSIONS or not all(type(size) is int and 0 <= size < 2**40 for size in shape):
            raise UnplainPickleError("of an array without a proper shape")
        kind, count = element_type.kind, math.prod(shape)
        if kind in ("O", "O8") and type(data) is list and len(data) == count and len(shape) < 2:
            # NumPy wraps a dict that is saved like an array, and some converters each pair of weights and biases.
            return data if shape else data[0]
        if kind not in ("f4", "f8") or element_type.order not in ("<", ">"):
            raise UnplainPickleError(f"of an array of type {kind[:20]!r}, not float32 or float64")
        data, dtype = self._encode(data) if type(data) is str else data, np.dtype(element_type.order + kind)
        if type(data) is not bytes or len(data) != count * dtype.itemsize:
            raise UnplainPickleError("of an array whose bytes do not fit its shape")
        return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")

    def _encode(self, text):
        self._bytes_left -= len(text)
        if self._bytes_left < 0:
            raise UnplainPickleError("of arrays that are larger than the file")
        return text.encode("latin1")
