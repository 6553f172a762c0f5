"""What is known of classes beside their names: a dict from column to text for each. Uses no TensorFlow."""

import csv
import pathlib

from jtln_tf.config import InputError
from jtln_tf.data.sources.image_tree import normalize


def read_class_table(path):
    """Reads a CSV of classes: the class in the first column, what is known of it in the others.

    Returns:
        Dict from class names to dicts from column names to texts; the first column is among them.

    Raises:
        InputError: If the file is no UTF-8 table.
    """
    path = pathlib.Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(map(normalize, file))
            key = (reader.fieldnames or [""])[0]
            # Fields beyond the header have no column, and a short row has no text.
            return {row[key]: {column: row[column] or "" for column in reader.fieldnames} for row in reader}
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"A classes.csv must be a UTF-8 table. Received: {str(path)!r} ({error}).") from error


def level_columns(class_names):
    """Makes columns of the folders above a class: `level_1` of Fruit/Citrus/Lime is Fruit, `level_2` Fruit/Citrus.

    Args:
        class_names: Names of folders joined by `/`.

    Returns:
        A class table; empty where no class has a folder above.
    """
    table = {}
    for name in class_names:
        parts = name.split("/")
        for depth in range(1, len(parts)):
            # With those above it, so that one of that name elsewhere is another.
            table.setdefault(name, {"class": name})[f"level_{depth}"] = "/".join(parts[:depth])
    return table


def shared_columns(rows, key):
    """Makes columns of what all rows of a class agree on.

    Args:
        rows: Dicts from column to text, of the same columns.
        key: Column of the class name.

    Returns:
        A class table, `key` among its columns; empty where the rows of a class share nothing more.
    """
    first, mixed = {}, set()
    for row in rows:
        known = first.setdefault(row[key], row)
        mixed.update(column for column in known if known[column] != row[column])
    shared = [column for column in next(iter(first.values()), {}) if column not in mixed]
    shared = [column for column in shared if any(row[column] for row in first.values())]
    return {name: {column: row[column] for column in shared} for name, row in first.items()} if shared[1:] else {}
