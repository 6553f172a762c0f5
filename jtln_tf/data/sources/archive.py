"""Archives of images, unpacked once into the cache folder.

Anyone may have made an archive: each entry is checked before it is written, and a refused archive leaves nothing.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import BinaryIO

from jtln_tf.config import InputError
from jtln_tf.data.sources.archive_reader import Entry, read_entries
from jtln_tf.data.sources.class_table import is_class_table_name
from jtln_tf.data.sources.image_tree import IMAGE_SUFFIXES, is_hidden, is_image_name
from jtln_tf.files import check_room, first_line, lock

# More, or larger, than photographs come.
_MAX_ENTRIES, _MAX_FOLDERS, _MAX_FILE_BYTES = 2_000_000, 100_000, 2**28
# Photographs do not shrink; drawings stored as BMP do, to a hundredth. Any archive may unpack to 16 MiB.
_MAX_RATIO, _HARMLESS_BYTES = 200, 2**24
# What file systems allow for a name, and for a path below the cache folder; removing folders recurses into each part.
_MAX_NAME_BYTES, _MAX_PATH_BYTES = 255, 1000
_TAIL_BYTES = 2**16
_DRIVE = re.compile(r"[A-Za-z]:")


def unpack_archive(path: str | os.PathLike, cache_dir: str | os.PathLike) -> pathlib.Path:
    """Unpacks the images of an archive, and its `classes.csv`, unless that is done already; returns their folder.

    The folder is there once everything is written, so that a kill leaves none. If two processes want the same archive,
    the second waits for the first.

    Raises:
        InputError: If the archive is damaged or could do harm, or if the folder cannot be written.
    """
    path, cache_dir = pathlib.Path(path), pathlib.Path(cache_dir)
    try:
        with path.open("rb") as file:
            folder = cache_dir / f"archive_{_identify(file, path.name)}"
            if not folder.is_dir():
                cache_dir.mkdir(parents=True, exist_ok=True)
                with lock(folder.with_name(f"{folder.name}.lock")):
                    if not folder.is_dir():
                        _unpack(file, path, folder)
    except InputError:
        raise
    # A damaged archive raises errors of a dozen kinds; only those of the disk have a number.
    except Exception as error:
        rule, received = "An archive must be whole", repr(str(path))
        if isinstance(error, OSError) and error.errno:
            rule = "An archive must be readable, and `cache_dir` a folder that can be written"
            received += f" and {str(cache_dir)!r}"
        raise InputError(f"{rule}. Received: {received} ({first_line(error)}).") from error
    return folder / path.name


def _identify(file, name):
    """Returns a text that changes with an archive's name, size, time of change, or end."""
    status = os.fstat(file.fileno())
    digest = hashlib.sha256(json.dumps([name, status.st_size, status.st_mtime_ns]).encode())
    # The end holds the checksums: those of all files in a zip, that of the whole in a gzip.
    file.seek(max(0, status.st_size - _TAIL_BYTES))
    digest.update(file.read())
    file.seek(0)
    return digest.hexdigest()[:24]


def _unpack(file, path, folder):
    # One name for all processes: the one that holds the lock may remove what a killed one left.
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    # Images hardly shrink, so this tells at once of most archives that do not fit.
    check_room(folder.parent, os.fstat(file.fileno()).st_size, "cache_dir", "another folder")
    root, has_images = unfinished / path.name, False
    try:
        root.mkdir(parents=True)
        for entry in _wanted_entries(file, path):
            check_room(folder.parent, entry.num_bytes, "cache_dir", "another folder")
            entry.extract(str(root))
            has_images |= is_image_name(entry.name)
        if not has_images:
            raise InputError(f"An archive must hold images ({', '.join(IMAGE_SUFFIXES)}). Received: {str(path)!r}.")
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _wanted_entries(file: BinaryIO, path: pathlib.Path) -> Iterator[Entry]:
    """Yields the entries to unpack; raises `InputError` at the first entry, wanted or not, that could do harm."""
    most_bytes = max(_HARMLESS_BYTES, _MAX_RATIO * os.fstat(file.fileno()).st_size)
    files, folders, num_bytes = set(), set(), 0
    # The headers and the padding of a tar shrink better than images.
    for number, entry in enumerate(read_entries(file, path.name, 2 * most_bytes), 1):
        is_text = _is_text(entry.name)
        parts = _split_path(entry.name) if is_text else []
        name, is_folder = "/".join(parts), entry.kind == "folder"
        is_wanted = bool(parts) and not is_folder and not any(map(is_hidden, parts))
        is_wanted = is_wanted and (is_image_name(name) or is_class_table_name(parts[-1]))
        above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        num_bytes += entry.num_bytes
        folders |= above
        rules = {
            f"An archive must have at most {_MAX_ENTRIES} entries": number <= _MAX_ENTRIES,
            "An entry of an archive must have a name in UTF-8 (else unpack it, and name the folder)": is_text,
            "An entry of an archive must have a plain path that stays inside of it": bool(parts),
            f"An archive must have at most {_MAX_FOLDERS} folders": len(folders) <= _MAX_FOLDERS,
            "An archive must hold plain files and folders only": is_folder or entry.kind == "file",
            f"An archive must unpack to at most {_MAX_RATIO} times its size": num_bytes <= most_bytes,
            f"A file must have at most {_MAX_FILE_BYTES} bytes": not is_wanted or entry.num_bytes <= _MAX_FILE_BYTES,
            "An archive must hold each file once": is_folder or name not in files,
            "An archive must not hold a file and a folder of one name": name not in (files if is_folder else folders)
            and files.isdisjoint(above),
        }
        for rule, is_kept in rules.items():
            if not is_kept:
                what = f"{entry.name[:200]!r} ({entry.kind}, {entry.num_bytes} bytes)"
                raise InputError(f"{rule}. Received: {what} in {str(path)!r}.")
        if not is_folder:
            files.add(name)
        if is_wanted:
            yield entry


def _is_text(name):
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _split_path(name):
    """Returns the parts of an entry's path; none if it leads outside, or if no disk takes it."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    is_short = len(name.encode()) <= _MAX_PATH_BYTES and all(len(one.encode()) <= _MAX_NAME_BYTES for one in parts)
    is_plain = not name.startswith("/") and not _DRIVE.match(name) and not {"\\", "\0"} & set(name)
    # Without parts it is the archive's own folder, as `tar .` writes it.
    return (parts or ["."]) if is_short and is_plain and ".." not in parts else []
