"""Tables as spreadsheets write them: rows of texts, whatever separates, encodes and surrounds them.

Lists, class tables, cost files and trees are all read here. Imports no TensorFlow.
"""

import codecs
import contextlib
import csv
import io
import itertools
import os
import re
import stat
import typing
from collections.abc import Iterator

from jtln_tf.config import InputError, MissingInputError, normalize_name

TABLE_SUFFIXES = (".csv", ".tsv")
_MOST_BYTES, _LONGEST_LINE = 2**28, 2**22
# UTF-32 begins as UTF-16 does.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_ENDS = b"\r\n\t;,"
# One in so many bytes at least.
_LEAST_ZEROS = 32
# The first wins if several fit: names hold commas more often than tabs.
_DELIMITERS = "\t;,"
_SAMPLE_CHARACTERS, _SAMPLE_ROWS = 2**16, 50
# Excel's first line may name what separates the columns.
_SEPARATOR_LINE = re.compile(r'\s*"?sep=([\t;,|])"?\s*', re.IGNORECASE)
_NUMBER = re.compile(r"([+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?)\s*(%?)")
_FILE_NAME = re.compile(r"\.[A-Za-z]{3,5}$")


class Row(typing.NamedTuple):
    """A row of a table that is not blank.

    Attributes:
        line: Number of its last line.
        cells: Texts in NFC, without blanks around them.
        delimiter: What separates the columns of the table.
    """

    line: int
    cells: list[str]
    delimiter: str

    def trim(self, width: int) -> list[str]:
        """Returns the cells without empty ones beyond the width: spreadsheets write separators after the last."""
        end = len(self.cells)
        while end > width and not self.cells[end - 1]:
            end -= 1
        return self.cells[:end]


def is_table_name(path: str | os.PathLike) -> bool:
    """Returns whether a file of that name is taken for a table."""
    return os.fspath(path).lower().endswith(TABLE_SUFFIXES)


def read_rows(path: str | os.PathLike, what: str) -> Iterator[Row]:
    """Yields the rows of a table that are not blank.

    Columns are separated by commas, semicolons or tabs. The encoding is UTF-8, UTF-16, or UTF-32 with a byte order
    mark. Quotes are those of spreadsheets: a quote inside of quotes is doubled.

    Args:
        path: The file.
        what: What it is called in messages, such as "A list".

    Raises:
        MissingInputError: If there is no such file.
        InputError: If it is no such table, is no plain file, or is larger than 256 MiB.
    """
    with open_text(path, what) as file:
        delimiter, has_hint = _find_delimiter(file.read(_SAMPLE_CHARACTERS))
        file.seek(0)
        lines = _close_up(file, delimiter)
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
        rows = ([normalize_name(cell.strip()) for cell in cells] for cells in reader)
        for cells in itertools.islice(filter(_is_filled, rows), int(has_hint), None):
            yield Row(reader.line_num, cells, delimiter)


@contextlib.contextmanager
def open_text(path: str | os.PathLike, what: str) -> Iterator[typing.TextIO]:
    """Opens a text file whose encoding is known by its first bytes; takes the arguments of `read_rows`.

    Lines keep their ends. Raises the errors of `read_rows`, also for what is found while the file is read.
    """
    _check_file(path, what)
    with open(path, "rb") as file:
        encoding = _find_encoding(file.read(_SAMPLE_CHARACTERS))
    try:
        with open(path, newline="", encoding=encoding) as file:
            yield file
    except UnicodeError as error:
        hint = "Hint: save it as CSV UTF-8."
        raise InputError(f"{what} must be a UTF-8 table. Received: {os.fspath(path)!r} ({error}). {hint}") from error
    except csv.Error as error:
        raise InputError(f"{what} must be a UTF-8 table. Received: {os.fspath(path)!r} ({error}).") from error


def parse_number(cell: str) -> float | None:
    """Returns the number in a cell, or None if it holds none; it may have a decimal comma or a percent sign."""
    match = _NUMBER.fullmatch(cell)
    return match and float(match[1].replace(",", ".")) / (100.0 if match[2] else 1.0)


def _check_file(path, what):
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise MissingInputError(f"{what} must be an existing file. Received: {os.fspath(path)!r}.") from error
    # Opening a pipe waits for another process, and a device may never end.
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{what} must be a plain file. Received: {os.fspath(path)!r}.")
    if status.st_size > _MOST_BYTES:
        received = f"{os.fspath(path)!r} with {status.st_size}"
        raise InputError(f"{what} must have at most {_MOST_BYTES} bytes. Received: {received}.")


def _find_encoding(start):
    for mark, encoding in _MARKS.items():
        if start.startswith(mark):
            return encoding
    # Whatever the script, in UTF-16 what ends lines and cells is of two bytes, one of them a zero.
    even, odd = start[::2], start[1::2]
    counts = {"utf-16-le": _count_wide_ends(even, odd), "utf-16-be": _count_wide_ends(odd, even)}
    encoding = max(counts, key=counts.get)
    # UTF-8 with a stray zero.
    is_stray = start.count(0) * _LEAST_ZEROS < len(start)
    return "utf-8" if is_stray or not counts[encoding] else encoding


def _count_wide_ends(low, high):
    return sum(first in _ENDS and not second for first, second in zip(low, high, strict=False))


def _is_filled(cells):
    # Separators alone may be of another kind than those of the table.
    return any(cell.strip(_DELIMITERS) for cell in cells)


def _close_up(lines, delimiter):
    """Yields lines without the blanks between a closing quote and what ends its cell, which csv would refuse."""
    is_quoted = False
    for line in lines:
        if "\0" in line:
            raise csv.Error("a zero byte")
        if len(line) > _LONGEST_LINE:
            raise csv.Error(f"a line of more than {_LONGEST_LINE} letters")
        if '"' not in line:
            yield line
            continue
        pieces, has_closed = line.split('"'), False
        for number, piece in enumerate(pieces[1:], 1):
            before = pieces[number - 1]
            if is_quoted:
                is_quoted, has_closed = False, True
                after = piece.lstrip(" ")
                if after[:1] in (delimiter, "\r", "\n") or (not after and number + 1 == len(pieces)):
                    pieces[number] = after
            else:
                # A doubled quote goes on. Elsewhere than at the start of a cell, a quote is text: 5" pipe.
                is_start = before.rstrip(" ").endswith(delimiter) or (number == 1 and not before.strip(" "))
                is_quoted, has_closed = is_start or (has_closed and not before), False
        yield '"'.join(pieces)


def _find_delimiter(sample):
    """Returns what separates the columns, and whether the first line only says so."""
    lines = io.StringIO(sample, newline="").readlines()
    # The last line may be cut off.
    lines = [line for line in lines[: -1 if len(sample) == _SAMPLE_CHARACTERS else None] if line.strip()] or [sample]
    if match := _SEPARATOR_LINE.fullmatch(lines[0]):
        return match[1], True
    return max(_DELIMITERS, key=lambda delimiter: _score(lines, delimiter)), False


def _score(lines, delimiter):
    """Returns how well a delimiter fits: no cell is torn apart, and rows have as many columns as the first."""
    reader = csv.reader(_close_up(lines, delimiter), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows, is_whole = [], True
    try:
        for row in itertools.islice(reader, _SAMPLE_ROWS):
            rows.append([cell.strip() for cell in row])
    except csv.Error:
        is_whole = False
    rows = list(filter(_is_filled, rows))
    if not rows or len(rows[0]) == 1:
        return (0,)
    # With and without the separators after the last column.
    widths = [(len(row), max(index for index, cell in enumerate(row) if cell)) for row in rows]
    num_alike = sum(any(one == first for one, first in zip(width, widths[0], strict=True)) for width in widths)
    cells = [cell for row in rows for cell in row if cell]
    # Texts hold commas and semicolons, but hardly tabs.
    is_whole &= not any("\t" in cell or cell[0] in _DELIMITERS or cell[-1] in _DELIMITERS for cell in cells)
    num_known = sum(parse_number(cell) is not None or bool(_FILE_NAME.search(cell)) for cell in cells)
    return 1, is_whole, num_alike, len(rows[0]), num_known
