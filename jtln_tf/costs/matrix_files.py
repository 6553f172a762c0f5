"""What stands in the files of cost matrices, bounded by their headers before it is read. Imports no TensorFlow."""

import array
import math
import pathlib
import re
import zipfile

import numpy as np

from jtln_tf.config import InputError
from jtln_tf.tables import parse_number, read_rows

# Of float64 values, 8,192 source and target classes; of names, those of 100,000 classes.
_MOST_BYTES = {"values": 2**29, "source_classes": 2**26, "target_classes": 2**26, "provenance": 2**26}
_MOST_HEADER_BYTES = 2**16
_KINDS = {"values": "biuf"}
_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# Without a decimal comma among them, these may be thousands.
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+")
_TARGET_FIRST = re.compile(r"target.*source", re.IGNORECASE)
_CORNER = re.compile(r"source|target|class", re.IGNORECASE)
_LONGEST_CELL = 60


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a `.npz` cost matrix; no pickle is read, and none beside these.

    Raises:
        InputError: If an array is larger than a cost matrix can be, by its header.
        Exception: Of any kind, if the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        present = {name.removesuffix(".npy") for name in archive.namelist()}
        needed = [name for name in _MOST_BYTES if name != "provenance" or name in present]
        return {name: _read_array(archive, name) for name in needed}


def _read_array(archive, name):
    most, info = _MOST_BYTES[name], archive.getinfo(f"{name}.npy")
    # An entry gives no more than the size that it names.
    num_bytes = info.file_size - _MOST_HEADER_BYTES
    if num_bytes <= most:
        with archive.open(info) as file:
            shape, is_fortran, dtype = _READ_HEADER[np.lib.format.read_magic(file)](file)
            if dtype.kind not in _KINDS.get(name, "U"):
                raise ValueError(f"could not convert {name} of the type {dtype}")
            num_bytes = math.prod(shape) * dtype.itemsize
            if 0 <= num_bytes <= most:
                data = file.read(num_bytes)
                if len(data) != num_bytes or file.read(1):
                    raise ValueError(f"{name} has another size than its header says")
                return np.ndarray(shape, dtype, data, order="F" if is_fortran else "C")
    raise InputError(f"`cost_matrix` must have at most {most} bytes of {name}. Received: {num_bytes}.")


def read_table(path: pathlib.Path) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...], bool]:
    """Reads a table of costs: target classes in its first row, then rows of a source class and its costs.

    Numbers may have decimal commas or percent signs. The corner may be missing, as R writes tables.

    Returns:
        Values float64 [n, m], source classes, target classes, and whether the corner says that these are exchanged.

    Raises:
        InputError: If it is no such table.
    """
    rows = read_rows(path, "`cost_matrix`")
    # Of each decimal sign, and of whole numbers, where it stands first.
    header, names, values, signs = None, [], array.array("d"), {None: ""}
    for row in rows:
        if header is None:
            header = row.trim(1)
            continue
        cells = row.trim(len(header))
        if not names and len(cells) == len(header) + 1 and header[0]:
            header = ["", *header]
        if len(cells) != len(header):
            received = f"{len(cells)} for {cells[0]!r}"
            raise InputError(f"`cost_matrix` must have {len(header)} fields a row. Received: {received}.")
        names.append(cells[0])
        values.extend(_parse_costs(cells, header, row.delimiter, signs))
    target_classes = tuple(header[1:]) if header else ()
    if not names or not target_classes or _is_row_of_costs(header) or not all((*target_classes, *names)):
        raise InputError(
            "`cost_matrix` must have target classes in its first row, and rows of a source class and its costs, "
            f"each with a name. Received: {len(names)} rows after {_shorten(','.join(header or ()))}."
        )
    found = np.array(values).reshape(len(names), len(target_classes))
    return found, tuple(names), target_classes, bool(_TARGET_FIRST.search(header[0]))


def _is_row_of_costs(cells):
    """Returns whether the first row is no header: it holds numbers alone, or a name and what no classes are called."""
    first, *numbers = map(parse_number, cells)
    if None in numbers or not cells[0] or _CORNER.search(cells[0]):
        return False
    are_costs = len(set(numbers)) < len(numbers) or not all(map(float.is_integer, numbers))
    return first is not None or are_costs


def _parse_costs(cells, header, delimiter, signs):
    for name, cell in zip(header[1:], cells[1:], strict=True):
        value = parse_number(cell)
        is_thousand = delimiter == "," and "," in cell and _THOUSANDS.fullmatch(cell)
        sign = "," if "," in cell else "." if "." in cell else None
        if value is None or is_thousand or sign not in signs:
            place = f"{_shorten(cell)} for source class {cells[0]!r}, target class {name!r}"
            if value is None:
                raise InputError(f"`cost_matrix` must hold numbers. Received: {place}.")
            if is_thousand:
                hint = "Hint: 1,234 may be a thousand or a little over 1; write decimal points."
                raise InputError(f"`cost_matrix` must hold plain numbers. Received: {place}. {hint}")
            signs[sign] = place
            if len(signs) > 2:
                places = f"{signs['.']} and {signs[',']}"
                raise InputError(f"`cost_matrix` must have one decimal sign. Received: {places}.")
        yield value


def _shorten(text):
    return repr(text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}...")
