"""The class cost matrix and its files. Imports no TensorFlow."""

import collections
import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from jtln_tf.config import InputError, MissingInputError, normalize_name
from jtln_tf.costs.matrix_files import read_arrays, read_table
from jtln_tf.files import first_line, open_whole
from jtln_tf.tables import TABLE_SUFFIXES

_FORMAT_VERSION = 2
# Types of the fields that say where a matrix comes from.
_PROVENANCE = {"metric": str, "parameters": dict, "backbone": str, "data": dict}
_OTHER_SIDE = {"source": "target", "target": "source"}
_CSV_CORNER = "source \\ target"
# What a table is called whose corner says that rows are target classes.
TRANSPOSED_FILE = "file, transposed"


@dataclasses.dataclass(frozen=True, eq=False)
class CostMatrix:
    """The cost of relating each source class to each target class: small if the two are related.

    Attributes:
        values: float32 [num_source_classes, num_target_classes], finite and not negative.
        source_classes: Names of the rows.
        target_classes: Names of the columns.
        metric: How the values were found.
        parameters: What else is needed to find them again (JSON values).
        backbone: What the features came from; empty if there are none, or it is not known.
        data: Fingerprint, name and number of the training images that were looked at, by side; empty if none were.
        trust: How far the images confirm the costs, in [0, 1]; not kept in files.

    Examples:
        >>> import jtln_tf as jt
        >>> costs = jt.CostMatrix([[0.0, 0.9], [0.8, 0.1]], ("cat", "oak"), ("lynx", "elm"))
        >>> costs.nearest(1)
        {'lynx': ['cat'], 'elm': ['oak']}
    """

    values: np.ndarray
    source_classes: tuple[str, ...]
    target_classes: tuple[str, ...]
    metric: str = "unknown"
    parameters: dict = dataclasses.field(default_factory=dict)
    backbone: str = ""
    data: dict = dataclasses.field(default_factory=dict)
    trust: float = 1.0

    def __post_init__(self) -> None:
        for kind in ("source_classes", "target_classes"):
            object.__setattr__(self, kind, tuple(map(normalize_name, getattr(self, kind))))
        values = _as_numbers(self.values)
        shape, expected = list(values.shape), [len(self.source_classes), len(self.target_classes)]
        if shape != expected:
            hint = " Hint: it is transposed." if shape == expected[::-1] else ""
            raise InputError(
                "`cost_matrix` must have shape [num_source_classes, num_target_classes] = "
                f"{expected}. Received: shape {shape}.{hint}"
            )
        for kind, names in (("source", self.source_classes), ("target", self.target_classes)):
            repeated = sorted(name for name, count in collections.Counter(names).items() if count > 1)
            if repeated:
                received = f"{repeated[0]!r} repeatedly"
                raise InputError(f"`cost_matrix` must name each {kind} class once. Received: {received}.")
        self._check_entries(values, ~(np.abs(values) <= np.finfo(np.float32).max), "finite")
        self._check_entries(values, values < 0, "not negative")
        object.__setattr__(self, "values", values.astype(np.float32))

    def _check_entries(self, values, is_wrong, meaning):
        if is_wrong.any():
            row, column = np.argwhere(is_wrong)[0]
            raise InputError(
                f"`cost_matrix` must be {meaning}. Received: {values[row, column]} for source class "
                f"{self.source_classes[row]!r}, target class {self.target_classes[column]!r}."
            )

    def align(self, source_classes: Sequence[str], target_classes: Sequence[str]) -> "CostMatrix":
        """Returns the matrix with its rows and columns in the order of the given names.

        It is transposed if its rows are the target classes. Blanks around names do not count.

        Raises:
            InputError: If the names are not the same; the message lists the missing and the unknown ones.
        """
        if self.is_transposed(source_classes, target_classes):
            exchanged = {other: self.data[side] for side, other in _OTHER_SIDE.items() if side in self.data}
            named = {"source_classes": self.target_classes, "target_classes": self.source_classes}
            transposed = dataclasses.replace(self, values=self.values.T, **named, data=exchanged)
            return transposed.align(source_classes, target_classes)
        rows = _find_order(self.source_classes, source_classes, "source")
        columns = _find_order(self.target_classes, target_classes, "target")
        names = {"source_classes": tuple(source_classes), "target_classes": tuple(target_classes)}
        return dataclasses.replace(self, values=self.values[np.ix_(rows, columns)], **names)

    def is_transposed(self, source_classes: Sequence[str], target_classes: Sequence[str]) -> bool:
        """Returns whether more of these names fit if the rows are taken for the target classes."""
        own = (self.source_classes, self.target_classes)
        as_named, exchanged = (
            sum(len(set.intersection(*map(set, _keys(*pair)))) for pair in zip(own, wanted, strict=True))
            for wanted in ((source_classes, target_classes), (target_classes, source_classes))
        )
        return exchanged > as_named

    def nearest(self, count: int = 3) -> dict[str, list[str]]:
        """Returns the `count` cheapest source classes of each target class, by its name, the cheapest first."""
        order = np.argsort(self.values, axis=0, kind="stable")[:count]
        return {
            target: [self.source_classes[row] for row in order[:, column]]
            for column, target in enumerate(self.target_classes)
        }

    def save(self, path: str | pathlib.Path) -> None:
        """Writes a `.npz` (without pickle) or `.csv` file, whole or not at all; a table holds no provenance.

        Raises:
            InputError: If the suffix is neither.
        """
        path = pathlib.Path(path)
        writers = {".npz": self._write_npz, ".csv": self._write_csv}
        write = writers.get(path.suffix.lower())
        if write is None:
            raise InputError(f"`path` must end in .npz or .csv. Received: {str(path)!r}.")
        with open_whole(path) as file:
            write(file)

    def _write_npz(self, file):
        provenance = {"format": _FORMAT_VERSION, **{name: getattr(self, name) for name in _PROVENANCE}}
        names = {kind: np.array(getattr(self, kind), np.str_) for kind in ("source_classes", "target_classes")}
        np.savez(file, values=self.values, **names, provenance=np.array(json.dumps(provenance, sort_keys=True)))

    def _write_csv(self, file):
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text)
        writer.writerow([_CSV_CORNER, *self.target_classes])
        for name, row in zip(self.source_classes, self.values.tolist(), strict=True):
            writer.writerow([name, *(f"{value:.9g}" for value in row)])
        text.detach()


def load_cost_matrix(path: str | pathlib.Path) -> CostMatrix:
    """Reads a cost matrix file.

    A `.csv` holds the target class names in its first row, and in each further row a source class name and its costs,
    as a spreadsheet writes it (see `read_rows`), with decimal points or commas.

    Raises:
        MissingInputError: If the file does not exist.
        InputError: If the file is no cost matrix, or a value is not finite or is negative.

    Examples:
        >>> import tempfile
        >>> import jtln_tf as jt
        >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        ...     print(",lynx,elm", "cat,0,0.9", "oak,0.8,0.1", sep=chr(10), file=file, flush=True)
        ...     jt.load_cost_matrix(file.name).source_classes
        ('cat', 'oak')
    """
    path = pathlib.Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"`cost_matrix` must be a plain file. Received: {str(path)!r}.")
    if not path.is_file():
        raise MissingInputError(f"`cost_matrix` must name an existing file. Received: {str(path)!r}.")
    read = {".npz": _load_arrays, **dict.fromkeys(TABLE_SUFFIXES, _load_table)}.get(path.suffix.lower())
    if read is None:
        raise InputError(f"`cost_matrix` must be a .npz or .csv file. Received: {str(path)!r}.")
    try:
        return read(path)
    except InputError as error:
        place = "" if repr(str(path)) in str(error) else f" File: {str(path)!r}."
        raise InputError(f"{error}{place}") from error
    # A damaged file raises errors of a dozen kinds.
    except Exception as error:
        reason = first_line(error)
        raise InputError(f"`cost_matrix` must be a cost matrix file. Received: {str(path)!r} ({reason}).") from error


def _load_arrays(path):
    arrays = read_arrays(path)
    provenance = json.loads(arrays["provenance"].item()) if "provenance" in arrays else {}
    if provenance.get("format", 1) > _FORMAT_VERSION:
        received = f"format {provenance['format']}"
        raise InputError(f"`cost_matrix` must have format {_FORMAT_VERSION} or older. Received: {received}.")
    known = {name: provenance[name] for name in _PROVENANCE if name in provenance}
    fits = all(isinstance(value, _PROVENANCE[name]) for name, value in known.items())
    if not fits or not all(isinstance(described, dict) for described in known.get("data", {}).values()):
        raise ValueError("its provenance has another type")
    return CostMatrix(arrays["values"], arrays["source_classes"].tolist(), arrays["target_classes"].tolist(), **known)


def _load_table(path):
    values, rows, columns, is_transposed = read_table(path)
    if is_transposed:
        return CostMatrix(values.T, columns, rows, TRANSPOSED_FILE)
    return CostMatrix(values, rows, columns, "file")


def _as_numbers(values):
    try:
        values = np.asarray(values)
        if values.dtype.kind == "c":
            raise TypeError("complex numbers")
        return values.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"`cost_matrix` must hold real numbers. Received: {first_line(error)}.") from error


def _keys(*lists):
    """Returns names as they are compared, list by list: blanks around them do not count, unless two differ in them."""
    for change in (lambda name: normalize_name(name).strip(), normalize_name):
        changed = [list(map(change, names)) for names in lists]
        if all(len(set(names)) == len(names) for names in changed):
            break
    return changed


def _find_order(own, wanted, kind):
    own, keys = _keys(own, wanted)
    places = {name: place for place, name in enumerate(own)}
    missing = [name for name in keys if name not in places]
    spare = sorted(places.keys() - keys, key=places.get)
    if missing or spare:
        details = [f"missing {_list_some(missing)}"] * bool(missing) + [f"unknown {_list_some(spare)}"] * bool(spare)
        raise InputError(
            f"`cost_matrix` must name the {len(wanted)} {kind} classes of the data. Received: {len(own)} names, "
            f"{', '.join(details)}."
        )
    return [places[name] for name in keys]


def _list_some(names, most=3):
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
