"""The class cost matrix and its files. Imports no TensorFlow."""

import csv
import dataclasses
import io
import json
import pathlib
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.files import first_line, open_whole

_FORMAT_VERSION = 2
# Types of the fields that say where a matrix comes from.
_PROVENANCE = {"metric": str, "parameters": dict, "backbone": str, "data": dict}
_CSV_CORNER = "source \\ target"
# NumPy, zipfile, json and csv raise these for files that are damaged or of another kind.
_READING_ERRORS = (
    *(ValueError, KeyError, TypeError, AttributeError, EOFError, OSError),
    *(zipfile.BadZipFile, zlib.error, csv.Error),
    # Endlessly nested JSON; a header that promises an array larger than the memory.
    *(RecursionError, MemoryError),
)


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

    Example:
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

    def __post_init__(self) -> None:
        values = np.asarray(self.values, np.float32)
        object.__setattr__(self, "values", values)
        expected = (len(self.source_classes), len(self.target_classes))
        if values.shape != expected:
            raise InputError(
                "`cost_matrix` must have shape [num_source_classes, num_target_classes] = "
                f"{list(expected)}. Received: shape {list(values.shape)}."
            )
        for kind, names in (("source", self.source_classes), ("target", self.target_classes)):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                received = f"{repeated[0]!r} repeatedly"
                raise InputError(f"`cost_matrix` must name each {kind} class once. Received: {received}.")
        self._check_entries(~np.isfinite(values), "finite")
        self._check_entries(values < 0, "not negative")

    def _check_entries(self, is_wrong, meaning):
        if is_wrong.any():
            row, column = np.argwhere(is_wrong)[0]
            raise InputError(
                f"`cost_matrix` must be {meaning}. Received: {self.values[row, column]} for source class "
                f"{self.source_classes[row]!r}, target class {self.target_classes[column]!r}."
            )

    def align(self, source_classes: Sequence[str], target_classes: Sequence[str]) -> "CostMatrix":
        """Returns the matrix with its rows and columns in the order of the given names.

        Raises:
            InputError: If the names are not the same; the message lists the missing and the unknown ones.
        """
        rows = _find_order(self.source_classes, source_classes, "source")
        columns = _find_order(self.target_classes, target_classes, "target")
        names = {"source_classes": tuple(source_classes), "target_classes": tuple(target_classes)}
        return dataclasses.replace(self, values=self.values[np.ix_(rows, columns)], **names)

    def nearest(self, count: int = 3) -> dict[str, list[str]]:
        """Returns the `count` cheapest source classes of each target class, by its name, the cheapest first."""
        order = np.argsort(self.values, axis=0, kind="stable")[:count]
        return {
            target: [self.source_classes[row] for row in order[:, column]]
            for column, target in enumerate(self.target_classes)
        }

    def save(self, path: str | pathlib.Path) -> None:
        """Writes a `.npz` (without pickle) or `.csv` file, whole or not at all.

        Raises:
            InputError: If the suffix is neither.
        """
        path = pathlib.Path(path)
        writers = {".npz": self._write_npz, ".csv": self._write_csv}
        if path.suffix not in writers:
            raise InputError(f"`path` must end in .npz or .csv. Received: {str(path)!r}.")
        with open_whole(path) as file:
            writers[path.suffix](file)

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

    A `.csv` holds the target class names in its first row, and in each further row a source class name and its costs.

    Raises:
        MissingInputError: If the file does not exist.
        InputError: If the file is no cost matrix, or a value is not finite or is negative.

    Example:
        >>> import tempfile
        >>> import jtln_tf as jt
        >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        ...     print(",lynx,elm", "cat,0,0.9", "oak,0.8,0.1", sep=chr(10), file=file, flush=True)
        ...     jt.load_cost_matrix(file.name).source_classes
        ('cat', 'oak')
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise MissingInputError(f"`cost_matrix` must name an existing file. Received: {str(path)!r}.")
    readers = {".npz": _read_npz, ".csv": _read_csv}
    if path.suffix not in readers:
        raise InputError(f"`cost_matrix` must be a .npz or .csv file. Received: {str(path)!r}.")
    try:
        return readers[path.suffix](path)
    except InputError as error:
        raise InputError(f"{error} File: {str(path)!r}.") from error
    except _READING_ERRORS as error:
        reason = first_line(error)
        raise InputError(f"`cost_matrix` must be a cost matrix file. Received: {str(path)!r} ({reason}).") from error


def _read_npz(path):
    # Opened here, because np.load does not close a file that it cannot read.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        provenance = json.loads(str(file["provenance"])) if "provenance" in file else {}
        if provenance.get("format", 1) > _FORMAT_VERSION:
            received = f"format {provenance['format']}"
            raise InputError(f"`cost_matrix` must have format {_FORMAT_VERSION} or older. Received: {received}.")
        known = {name: provenance[name] for name in _PROVENANCE if name in provenance}
        fits = all(isinstance(value, _PROVENANCE[name]) for name, value in known.items())
        if not fits or not all(isinstance(described, dict) for described in known.get("data", {}).values()):
            raise ValueError("its provenance has another type")
        names = (tuple(file[kind].tolist()) for kind in ("source_classes", "target_classes"))
        return CostMatrix(file["values"], *names, **known)


def _read_csv(path):
    # Spreadsheets start their files with a byte order mark.
    with path.open(newline="", encoding="utf-8-sig") as file:
        header, *rows = [row for row in csv.reader(file) if row]
    target_classes = tuple(header[1:])
    if not rows or not target_classes:
        raise InputError(
            "`cost_matrix` must have target classes in its first row, and rows of a source class and its costs, "
            f"separated by commas. Received: {len(rows)} rows after {','.join(header)!r}."
        )
    for row in rows:
        if len(row) != len(header):
            received = f"{len(row)} for {row[0]!r}"
            raise InputError(f"`cost_matrix` must have {len(header)} fields a row. Received: {received}.")
    values = np.empty((len(rows), len(target_classes)))
    for row, column in np.ndindex(values.shape):
        source_class, field = rows[row][0], rows[row][column + 1]
        try:
            values[row, column] = float(field)
        except ValueError as error:
            raise InputError(
                f"`cost_matrix` must hold numbers. Received: {field!r} for source class {source_class!r}, target class "
                f"{target_classes[column]!r}."
            ) from error
    return CostMatrix(values, tuple(row[0] for row in rows), target_classes, "file")


def _find_order(own, wanted, kind):
    missing = [name for name in wanted if name not in own]
    spare = [name for name in own if name not in wanted]
    if missing or spare:
        details = [f"missing {_list_some(missing)}"] * bool(missing) + [f"unknown {_list_some(spare)}"] * bool(spare)
        raise InputError(
            f"`cost_matrix` must name the {len(wanted)} {kind} classes of the data. Received: {len(own)} names, "
            f"{', '.join(details)}."
        )
    return [own.index(name) for name in wanted]


def _list_some(names, most=3):
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
