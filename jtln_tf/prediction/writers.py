"""Writes predictions as they come: JSON lines, or a CSV table."""

import contextlib
import csv
import io
import os
import sys
import typing
from collections.abc import Iterator, Sequence

import numpy as np

from jtln_tf.files import open_whole, to_json

FORMATS = ("jsonl", "csv")
_DIGITS = 6


class Writer:
    """Writes the likeliest classes of each image."""

    def __init__(self, file: typing.TextIO, form: str, class_names: Sequence[str], top_k: int):
        """Takes a text file, one of `FORMATS`, class names, and how many classes to write; a table gets its header."""
        self._file, self._class_names, self._top_k = file, class_names, min(top_k, len(class_names))
        self._table = csv.writer(file, lineterminator="\n") if form == "csv" else None
        if self._table:
            columns = [f"{name}_{rank + 1}" for rank in range(self._top_k) for name in ("class", "probability")]
            self._table.writerow(["path", *columns])

    def write(self, path: str, probabilities: np.ndarray) -> None:
        """Writes the likeliest classes of an image by its probabilities [n], best first."""
        best = np.argsort(-probabilities, kind="stable")[: self._top_k]
        rows = [(self._class_names[index], round(float(probabilities[index]), _DIGITS)) for index in best]
        if self._table:
            self._table.writerow([path, *(cell for row in rows for cell in row)])
        else:
            classes = [{"class": name, "probability": probability} for name, probability in rows]
            self._write_line({"image": path, "classes": classes})

    def write_error(self, path: str, reason: str) -> None:
        """Writes why an image was not read; a table has no row for it."""
        if not self._table:
            self._write_line({"image": path, "error": reason})

    def flush(self) -> None:
        """Hands over what was written so far."""
        self._file.flush()

    def _write_line(self, values):
        self._file.write(to_json(values) + "\n")


@contextlib.contextmanager
def open_output(path: str) -> Iterator[typing.TextIO]:
    """Opens a text file that is there whole or not at all; an empty path is stdout."""
    if not path:
        yield sys.stdout
        return
    with open_whole(os.path.abspath(path)) as file:
        # Names of files that are not UTF-8 become codes, as on stdout.
        text = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="")
        yield text
        text.flush()
        text.detach()
