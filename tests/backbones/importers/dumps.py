"""Writes dumps of Caffe models the way that converters of the past did."""

import pickle
import struct

import numpy as np


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


def write_npy(path, content):
    """Writes a `.npy` file around the bytes of a pickle."""
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content)
    return path


def write_dump(path, layers, style="python2"):
    """Writes layers as Python 2 does, or as Python 3 with the protocol `style`."""
    array = np.array(layers, dtype=object)
    with path.open("wb") as file:
        if style == "python2":
            Python2Pickler(file, 2, fix_imports=True).dump(array)
        else:
            pickle.dump(array, file, protocol=style, fix_imports=True)
    return write_npy(path, path.read_bytes())


def write_torch(path, tensors, *, calls="torch._utils _rebuild_tensor_v2", extra=b""):
    """Writes arrays as PyTorch did before 1.6: pickles that tell names and shapes, then the numbers.

    An array that is not contiguous keeps its strides, as a transposed tensor does.
    """
    ordered = b"ccollections\nOrderedDict\n)R"
    rebuild = "c{}\n{}\n".format(*calls.split()).encode()
    items, numbers = [], []
    for number, (name, array) in enumerate(tensors.items()):
        kind = {"f4": "FloatStorage", "i8": "LongStorage"}.get(array.dtype.str[1:], "HalfStorage")
        storage = b"(" + _plain("storage") + f"ctorch\n{kind}\n".encode()
        storage += b"".join(map(_plain, (str(number), "cpu", array.size, None))) + b"tQ"
        strides = tuple(stride // array.itemsize for stride in array.strides)
        arguments = b"(" + storage + b"".join(map(_plain, (0, array.shape, strides, False))) + ordered + b"t"
        items.append(_plain(name) + rebuild + arguments + b"R")
        numbers.append(struct.pack("<q", array.size) + array.ravel(order="K").tobytes())
    state = b"}" + _plain("_metadata") + ordered + b"sb"
    header = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    keys = pickle.dumps([str(number) for number in range(len(tensors))], 2)
    content = b"\x80\x02" + ordered + b"(" + b"".join(items) + b"u" + state + b"."
    path.write_bytes(b"".join([*header, content, keys, *numbers]) + extra)
    return path


def _plain(value):
    """Opcodes of a value, without the frame of a pickle."""
    return pickle.dumps(value, 2)[2:-1]
