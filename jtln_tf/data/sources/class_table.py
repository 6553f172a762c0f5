"""What is known about classes beside their names: columns of text."""

import csv
import os
import pathlib
from collections.abc import Iterable, Sequence

from jtln_tf.config import InputError
from jtln_tf.data.sources.image_tree import normalize

CLASS_TABLE_FILE = "classes.csv"
# The text of each column, by class name.
ClassTable = dict[str, dict[str, str]]


def read_class_table(path: str | os.PathLike) -> ClassTable:
    """Reads a CSV of classes: the class in the first column, what is known about it in the others.

    Raises `InputError` if the file is not a UTF-8 table.
    """
    path = pathlib.Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(map(normalize, file))
            key = (reader.fieldnames or [""])[0]
            # Fields beyond the header have no column; a short row has None in its last ones.
            return {row[key]: {column: row[column] or "" for column in reader.fieldnames} for row in reader}
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"A classes.csv must be a UTF-8 table. Received: {str(path)!r} ({error}).") from error


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
