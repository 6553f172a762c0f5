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
