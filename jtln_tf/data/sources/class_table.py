"""What is known about classes beside their names: columns of text."""

import itertools
import os
import pathlib
from collections.abc import Collection, Iterable, Sequence

from absl import logging

from jtln_tf.config import InputError
from jtln_tf.tables import read_rows

_CLASS_TABLE_FILE = "classes.csv"
# The text of each column, by class name.
ClassTable = dict[str, dict[str, str]]


def read_class_table(path: str | os.PathLike, class_names: Collection[str] = ()) -> ClassTable:
    """Reads a table of classes: the class in the first column, what is known about it in the others.

    The first row names the columns; one without a name is left out. If the first has none, the class
    stands in the column `class`.

    Raises:
        InputError: If it is no table, its first row is one of `class_names`, or a class or a column is there twice.
    """
    rows = read_rows(path, "A classes.csv")
    columns = next((row.trim(1) for row in rows), [])
    named = [name for name in columns if name]
    if len(set(named)) < len(named):
        raise InputError(
            f"A classes.csv must name columns once each. Received: {', '.join(columns)!r} in {str(path)!r}."
        )
    # pandas writes its index into a first column without a name.
    key = next((name for name in named if name.lower() == "class" or name == columns[0]), "")
    if columns and not key:
        raise InputError(f"A classes.csv must name the column of the class. Received: none in {str(path)!r}.")
    table, lines, num_surplus = {}, {}, 0
    for row in rows:
        cells = row.trim(len(columns))
        num_surplus += len(cells) > len(columns)
        texts = dict(itertools.zip_longest(columns, cells[: len(columns)], fillvalue=""))
        texts.pop("", None)
        name = texts.get(key, "")
        if not name:
            raise InputError(
                f"A classes.csv must name a class in each row. Received: line {row.line} of {str(path)!r}."
            )
        if table.setdefault(name, texts) != texts:
            received = f"{name!r} in lines {lines[name]} and {row.line} of {str(path)!r}"
            raise InputError(f"A classes.csv must have one row for each class. Received: {received}.")
        lines.setdefault(name, row.line)
    if key in class_names and key not in table:
        raise InputError(
            f"A classes.csv must begin with a row of column names. Received: the class {key!r} in {str(path)!r}."
        )
    if num_surplus:
        logging.warning(
            "%r: left out texts beyond the %d columns in %d rows; a text with a separator must stand in quotes.",
            *(str(path), len(columns), num_surplus),
        )
    return table


def find_class_table(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the `classes.csv` in a folder, in upper or lower case, or None."""
    found = (entry for entry in sorted(folder.iterdir()) if is_class_table_name(entry.name) and entry.is_file())
    return next(found, None)


def is_class_table_name(name: str) -> bool:
    """Returns whether a file of that name is taken for a class table."""
    return name.lower() == _CLASS_TABLE_FILE


def level_columns(class_names: Iterable[str]) -> ClassTable:
    """Makes columns of the folders above a class: `level_1` of Fruit/Citrus/Lime is Fruit, `level_2` Fruit/Citrus.

    A class without a folder above has no row.
    """
    table = {}
    for name in class_names:
        # A level is named with those above it, because two folders of one name may stand in different ones.
        levels = [name[:end] for end, character in enumerate(name) if character == "/"]
        if levels:
            table[name] = {"class": name} | {f"level_{depth}": level for depth, level in enumerate(levels, 1)}
    return table


def shared_columns(rows: Sequence[dict[str, str]], key: str) -> ClassTable:
    """Makes a class table of the columns whose text is the same in all rows of a class, and not empty in all of them.

    All rows have the same columns. The names of the classes stand in the column `key`; if no other one is shared, the
    table is empty.
    """
    first, mixed = {}, set()
    for row in rows:
        known = first.setdefault(row[key], row)
        mixed.update(column for column in known if known[column] != row[column])
    filled = {column for row in first.values() for column in row if row[column]}
    shared = [column for column in next(iter(first.values()), {}) if column in filled - mixed]
    return {name: {column: row[column] for column in shared} for name, row in first.items()} if shared[1:] else {}
