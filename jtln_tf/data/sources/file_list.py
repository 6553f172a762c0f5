"""Images that a table lists: rows of `path,label[,split]` in a CSV or JSONL file beside them."""

import contextlib
import functools
import itertools
import json
import math
import os
import pathlib
import re
import stat
import unicodedata
from collections.abc import Iterator

import numpy as np

from jtln_tf.config import DomainSpec, InputError, MissingInputError, normalize_name
from jtln_tf.data.examples import Examples
from jtln_tf.data.sources.class_table import shared_columns
from jtln_tf.data.sources.image_tree import is_image_name
from jtln_tf.data.sources.listing import SPLIT_NAMES, Listing, find_split_name, require_known_class, select_classes
from jtln_tf.tables import TABLE_SUFFIXES, open_text, read_rows

_COLUMNS = ("path", "label", "split")
# What else these may be called, in any case, with blanks, `_`, `-` or nothing between the words.
_OTHER_TITLES = {
    "path": ("file", "filename", "filepath", "image", "imagename", "imagepath", "imagefile", "img", "imgpath"),
    "label": ("class", "classname", "labelname", "category", "target"),
    "split": ("set", "subset", "partition", "usage", "phase"),
}
_BETWEEN_WORDS = re.compile(r"[ _-]+")
# Images with the same text in this column are held out together.
_GROUP = "group"
_DRIVE_OR_URL = re.compile(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://")


def list_file_list(spec: DomainSpec, data_root: str = "", cache_dir: str = "") -> Listing:
    """Lists a `list:PATH.csv` or `list:PATH.jsonl` domain; opens no image.

    The columns of paths, labels and splits may have other usual names (`_OTHER_TITLES`). Paths are relative to the
    file's own folder and stay below it (links in it are followed). Classes are numbered in
    the order of their sorted names. Columns beside `path`, `label` and `split` whose text is the same in all rows of a
    class become the class table. Images with the same text in a column `group` are held out together. A missing file
    counts as an image that cannot be read.
    """
    del cache_dir
    path = pathlib.Path(data_root) / spec.name
    rows, columns = _check_rows(_read_rows(path), path)
    _check_splits(rows, path)
    if not any(os.path.isfile(row["file"]) for row in rows):
        raise MissingInputError(
            f"A list must name images by their paths below its own folder. Received: {rows[0]['path']!r} in line "
            f"{rows[0]['line']} of {str(path)!r}; neither it nor any other exists."
        )
    labels = {name: label for label, name in enumerate(sorted({row["label"] for row in rows if row["is_train"]}))}
    splits = {}
    for row in rows:
        require_known_class(row["label"], labels, f"{row['label']!r} in line {row['line']} of {str(path)!r}")
        splits.setdefault(row["split"] or "train", []).append(row)
    splits = {name: _make_examples(chosen, labels, path) for name, chosen in splits.items()}
    # A row that lacks a column has no text in it.
    texts = [{"label": row["label"], **{name: row["columns"].get(name, "") for name in columns}} for row in rows]
    return select_classes(Listing(tuple(labels), splits, class_table=shared_columns(texts, "label")), spec)


def _make_examples(rows, labels, path):
    files = np.array([row["file"] for row in rows], object)
    names = np.array([f"{row['path']} (line {row['line']} of {path.name})" for row in rows], object)
    groups = [next((text for name, text in row["columns"].items() if name.lower() == _GROUP), "") for row in rows]
    groups = np.array([normalize_name(text.strip()) for text in groups], object)
    return Examples(files, np.array([labels[row["label"]] for row in rows], np.int32), names, groups)


def _read_rows(path):
    """Returns the line number of each row, and its texts by column, as they are read."""
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(f"`list:` must name a file that ends in .csv or .jsonl. Received: {str(path)!r}.")
    # What is there but no plain file is refused by the reader, in other words.
    if not os.path.exists(path):
        raise MissingInputError(f"`list:` must name an existing file. Received: {str(path)!r}.")
    return read(path)


def _check_rows(numbered_rows, path):
    """Returns a dict for each image, and the names of the columns beside `path`, `label` and `split`.

    A row that repeats another is passed over.
    """
    numbered_rows, rows, columns = list(numbered_rows), {}, {}
    _name_splits(numbered_rows, path)
    for line, values in numbered_rows:
        place = f"in line {line} of {str(path)!r}"
        name, label, split = (values.pop(column, "").strip() for column in _COLUMNS)
        name = _check_path(name, place)
        if not label:
            raise InputError(f"A row must have a label. Received: none {place}.")
        if split and not find_split_name(split):
            raise InputError(f"A split must be one of {', '.join(SPLIT_NAMES)}. Received: {split!r} {place}.")
        split = find_split_name(split) or ""
        row = {"line": line, "path": name, "label": normalize_name(label), "split": split, "columns": values}
        first = rows.setdefault(name, row)
        if (first["label"], first["split"]) != (row["label"], row["split"]):
            received = f"{name!r} {place}, and otherwise in line {first['line']}"
            raise InputError(f"An image must have one label and be in one split. Received: {received}.")
        if first is row:
            row |= {"is_train": split in ("", "train"), "file": _find_on_disk(path.parent, name, place)}
            columns |= dict.fromkeys(values)
    if not rows:
        raise InputError(f"A list must have rows. Received: none in {str(path)!r}.")
    return list(rows.values()), tuple(columns)


def _check_path(text, place):
    """Returns a path with plain slashes; lists made on Windows have backslashes."""
    parts = text.replace("\\", "/").split("/")
    if not text:
        raise InputError(f"A row must have a path. Received: none {place}.")
    is_inside = parts[0] and ".." not in parts and not _DRIVE_OR_URL.match(text) and "\0" not in text
    clean = "/".join(part for part in parts if part not in ("", "."))
    if not is_inside or not clean:
        raise InputError(f"A path must lead to a file below the list's own folder. Received: {text!r} {place}.")
    return clean


def _find_on_disk(folder, name, place):
    """Returns what `find_on_disk` finds.

    Raises `InputError` if it is no plain file: a pipe would be waited for, and a device may have no end.
    """
    path = find_on_disk(folder, name)
    # A file that is missing, or may not be looked at, counts as an image that cannot be read.
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"A path must lead to a plain file. Received: {name!r} {place}.")
    return path


def find_on_disk(folder: str | os.PathLike, name: str) -> str:
    """Returns the path of a file, in the forms of Unicode that the disk has.

    A Mac's disks have another one than lists.
    """
    path = os.path.join(folder, name)
    if not name.isascii() and not os.path.lexists(path):
        path = os.fspath(folder)
        for part in name.split("/"):
            forms = [os.path.join(path, unicodedata.normalize(form, part)) for form in ("NFC", "NFD")]
            path = next(filter(os.path.lexists, forms), forms[0])
    return path


def read_paths(path: str | os.PathLike) -> Iterator[str]:
    """Yields the texts in the column of paths of a `.csv`, `.tsv` or `.jsonl` file, as a `list:` domain names it.

    A row without a path gives an empty text. Unlike a domain's, such a list need not have labels. A table without a
    header has the paths in its first column; else `InputError` is raised if there is no such column.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() == ".jsonl":
        yield from (values.get("path", "") for _, values in _read_jsonl(path))
        return
    rows = read_rows(path, "A list")
    first = next(rows, None)
    names = first.cells if first else []
    columns = _name_columns(names, f"in {str(path)!r}")
    if "path" not in columns:
        if not any(map(is_image_name, names[:1])):
            rule = "A list must begin with a row of columns, path among them"
            raise InputError(f"{rule}. Received: {', '.join(names)!r} in {str(path)!r}.")
        columns, rows = ["path"], itertools.chain([first], rows)
    place = columns.index("path")
    yield from ("".join(row.cells[place : place + 1]) for row in rows)


def _check_splits(rows, path):
    without = [row for row in rows if not row["split"]]
    if without and len(without) < len(rows):
        raise InputError(
            f"`split` must be given in all rows or in none. Received: none in line {without[0]['line']} of "
            f"{str(path)!r} ({len(without)} of {len(rows)} rows)."
        )
    if not any(row["is_train"] for row in rows):
        raise InputError(f"A list must have rows of the train split. Received: {str(path)!r} with none.")


def _read_table(path):
    rows = read_rows(path, "A list")
    first = next(rows, None)
    names = first.trim(1) if first else []
    columns = _name_columns(names, f"in {str(path)!r}")
    if not {"path", "label"} <= set(columns):
        columns = _guess_columns(names)
        rows = itertools.chain([first], rows)
    if not columns or len(set(columns)) < len(columns):
        raise InputError(
            "A list must begin with a row of different columns, path and label among them. "
            f"Received: {', '.join(names)!r} in {str(path)!r}."
        )
    for row in rows:
        cells = row.trim(len(columns))
        if len(cells) > len(columns):
            raise InputError(
                f"A row must have one text for each of the {len(columns)} columns. Received: {len(cells)} in "
                f"line {row.line} of {str(path)!r}. Hint: put a text with a {row.delimiter!r} in quotes."
            )
        yield row.line, {name: cell for name, cell in zip(columns, cells, strict=False) if name}


def _name_columns(names, place):
    """Returns the names of columns, the path and the label by our names; `InputError` if two do for one of them."""
    names, columns = tuple(names), []
    for column in ("path", "label"):
        found = _find_titles(names, column)
        if len(found) > 1:
            received = f"{' and '.join(map(repr, found))} {place}. Hint: name one of them {column}"
            raise InputError(f"A list must have one column of the {column}. Received: {received}.")
        columns += [(name, column) for name in found]
    return [dict(columns).get(name, name) for name in names]


@functools.lru_cache(maxsize=256)
def _find_titles(names, column):
    """Returns which names of columns say what a column of ours does: those that are its own, or else like it."""
    words = {name: _BETWEEN_WORDS.sub("", name.lower()) for name in names}
    own = [name for name in words if words[name] == column]
    return own or [name for name in words if words[name] in _OTHER_TITLES[column]]


def _name_splits(numbered_rows, path):
    """Calls the column of the splits `split`; a column of another name is taken for it only if it names a split."""
    names = tuple(dict.fromkeys(name for _, values in numbered_rows for name in values))
    found = [
        name
        for name in _find_titles(names, "split")
        if name.lower() == "split" or any(find_split_name(values.get(name, "")) for _, values in numbered_rows)
    ]
    if len(found) > 1:
        received = f"{' and '.join(map(repr, found))} in {str(path)!r}"
        raise InputError(f"A list must have one column of the split. Received: {received}.")
    for _, values in numbered_rows if found else ():
        values["split"] = values.pop(found[0], "")


def _guess_columns(cells):
    """Returns the columns of a list without a header, or nothing if its first row does not tell them."""
    columns = ["path" if is_image_name(cell) else "label" for cell in cells]
    if len(cells) == 3 and find_split_name(cells[2]):
        columns[2] = "split"
    return columns if sorted(columns) in (["label", "path"], ["label", "path", "split"]) else []


def _read_jsonl(path):
    with open_text(path, "A list") as file:
        for line, text in enumerate(file, 1):
            if text.strip():
                yield line, _parse_object(text, f"line {line} of {str(path)!r}")


def _parse_object(text, place):
    try:
        values = json.loads(text)
        # JSON may escape half of a surrogate pair, which cannot be written anywhere.
        json.dumps(values, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InputError(f"Each line of a list must be a JSON object. Received: {place} ({error}).") from error
    if not isinstance(values, dict):
        raise InputError(f"Each line of a list must be a JSON object. Received: {place}.")
    values = dict(zip(_name_columns(map(normalize_name, values), f"in {place}"), values.values(), strict=True))
    for column in _COLUMNS:
        value = values.get(column)
        if isinstance(value, dict | list) or (isinstance(value, float) and not math.isfinite(value)):
            raise InputError(f"`{column}` must be a text. Received: {value!r} in {place}.")
    # Classes cannot be chosen by a list or an object, so such columns are left out.
    texts = {key: value for key, value in values.items() if not isinstance(value, dict | list)}
    return {key: "" if value is None else normalize_name(str(value).strip()) for key, value in texts.items()}


_READERS = {**dict.fromkeys(TABLE_SUFFIXES, _read_table), ".jsonl": _read_jsonl}
