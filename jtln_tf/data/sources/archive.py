"""Archives of images, unpacked once into the cache folder. Uses no TensorFlow.

An archive may be anyone's: all its entries are checked before the first is written, and what is written is counted.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil

from jtln_tf.config import InputError
from jtln_tf.data.sources.archive_reader import READ_BYTES, read_entries, whole_archive
from jtln_tf.data.sources.image_tree import IMAGE_SUFFIXES, is_hidden, is_image_name
from jtln_tf.files import check_room, lock

# More, or larger, than photographs come.
_MAX_ENTRIES = 2_000_000
_MAX_ENTRY_BYTES = 2**28
# Photographs do not shrink; drawings kept as BMP do, to a hundredth. What unpacks to little is harmless.
_MAX_RATIO, _HARMLESS_BYTES = 200, 2**24
# A tar's headers and what fills its blocks shrink better than the images.
_MAX_TAR_OVERHEAD = 2
# What file systems take of a name, and of a path with that of the cache folder before it.
_MAX_NAME_BYTES, _MAX_PATH_BYTES = 255, 2000
# More than classes need; each costs a block of the disk, and removing them goes as deep as they do.
_MAX_PARTS, _MAX_FOLDERS = 32, 100_000
_DISK_BLOCK = 4096
_DRIVE = re.compile(r"[A-Za-z]:")
_OTHER_FILES = ("classes.csv",)


def unpack_archive(path, cache_dir):
    """Unpacks the images of an archive, and its `classes.csv`, where that is not done yet.

    The folder's name follows the archive's name, size, time and end. It gets it when all of it is written: a kill
    leaves none. Of two processes that want the same archive the second waits for the first.

    Args:
        path: The archive; its suffix is one of `ARCHIVE_SUFFIXES`.
        cache_dir: Cache folder; made where it does not exist.

    Returns:
        Folder of what was in the archive, called as the archive is.

    Raises:
        InputError: If the archive is damaged or holds what could do harm, or the folder cannot be written.
    """
    path = pathlib.Path(path)
    with whole_archive(path):
        file = path.open("rb")
    with file:
        folder = pathlib.Path(cache_dir) / f"archive_{_identify(path, file)}"
        if not folder.is_dir():
            # Nothing is written of an archive that is refused.
            sizes, folders = _check_entries(file, path)
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                with lock(folder.with_name(f"{folder.name}.lock")):
                    if not folder.is_dir():
                        blocks = len(folders) + sum(-(-size // _DISK_BLOCK) for size in sizes.values())
                        check_room(folder.parent, blocks * _DISK_BLOCK, "cache_dir", "another folder")
                        _write(file, path, sizes, folders, folder)
            except OSError as error:
                raise InputError(
                    f"`cache_dir` must be a folder that can be written. Received: {str(folder.parent)!r} "
                    f"({error.strerror})."
                ) from error
    return folder / path.name


def _identify(path, file):
    status = os.fstat(file.fileno())
    digest = hashlib.sha256(json.dumps([path.name, status.st_size, status.st_mtime_ns]).encode())
    # There a zip lists its files with their checksums, and gzip has that of all.
    file.seek(max(0, status.st_size - READ_BYTES))
    digest.update(file.read())
    return digest.hexdigest()[:24]


def _check_entries(file, path):
    """Returns the files to unpack, sizes by path, and their folders, once every entry is known to be harmless."""
    most = max(_HARMLESS_BYTES, _MAX_RATIO * os.fstat(file.fileno()).st_size)
    files, sizes, folders, total = set(), {}, set(), 0
    for number, entry in enumerate(read_entries(file, path, _MAX_TAR_OVERHEAD * most), 1):
        parts = _split_name(entry.name)
        total += entry.num_bytes
        if number > _MAX_ENTRIES:
            _refuse(entry.name, path, f"An archive must have at most {_MAX_ENTRIES} entries", " beyond them")
        if not parts:
            _refuse(entry.name, path, "An entry of an archive must lead to a place inside of it, by plain names")
        if len(parts) > _MAX_PARTS:
            _refuse(entry.name, path, f"An entry of an archive must have a path of at most {_MAX_PARTS} parts")
        if entry.kind == "encrypted":
            _refuse(entry.name, path, "An archive must not be encrypted")
        if entry.kind not in ("file", "folder"):
            _refuse(entry.name, path, "An archive must hold files and folders only", f", {entry.kind}")
        if entry.num_bytes > max(_HARMLESS_BYTES, _MAX_RATIO * entry.packed_bytes) or total > most:
            rule = f"An archive must unpack to at most {_MAX_RATIO} times its size"
            _refuse(entry.name, path, rule, f" of {entry.num_bytes} bytes")
        if entry.kind == "folder":
            continue
        name = "/".join(parts)
        if name in files:
            _refuse(entry.name, path, "An archive must hold each file once", ", which is there twice")
        files.add(name)
        if _is_wanted(parts):
            if entry.num_bytes > _MAX_ENTRY_BYTES:
                rule = f"An image in an archive must have at most {_MAX_ENTRY_BYTES} bytes"
                _refuse(entry.name, path, rule, f" of {entry.num_bytes} bytes")
            sizes[name] = entry.num_bytes
            _add_folders(folders, name)
            if len(folders) > _MAX_FOLDERS:
                _refuse(entry.name, path, f"An archive must have at most {_MAX_FOLDERS} folders", " beyond them")
    for name in sizes.keys() & folders:
        _refuse(name, path, "An archive must hold each file once", ", which is a folder too")
    if not any(map(is_image_name, sizes)):
        raise InputError(f"An archive must hold images ({', '.join(IMAGE_SUFFIXES)}). Received: {str(path)!r}.")
    return sizes, folders


def _refuse(name, path, rule, what=""):
    raise InputError(f"{rule}. Received: {name[:200]!r} in {str(path)!r}{what}.")


def _split_name(name):
    """Returns the parts of an entry's name; none where it is no plain path, or one that no disk takes."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    is_plain = not name.startswith("/") and not _DRIVE.match(name) and not {"\\", "\0"} & set(name)
    try:
        longest = max((len(part.encode()) for part in parts), default=0)
    except UnicodeEncodeError:
        return []
    is_short = longest <= _MAX_NAME_BYTES and len(name.encode()) <= _MAX_PATH_BYTES
    if not is_plain or not is_short or ".." in parts:
        return []
    # The archive's own folder, as `tar .` writes it.
    return parts or ["."]


def _is_wanted(parts):
    return not any(map(is_hidden, parts)) and (is_image_name(parts[-1]) or parts[-1] in _OTHER_FILES)


def _add_folders(folders, path):
    parent = os.path.dirname(path)
    while parent and parent not in folders:
        folders.add(parent)
        parent = os.path.dirname(parent)


def _write(file, path, sizes, folders, folder):
    # One name for all: whoever holds the lock may remove what a killed process left.
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    root = unfinished / path.name
    try:
        for name in sorted({"", *folders}):
            (root / name).mkdir(parents=True)
        left = dict(sizes)
        for entry in read_entries(file, path, float("inf")):
            name = "/".join(_split_name(entry.name))
            if entry.kind == "file" and name in left:
                _copy(entry, path, root / name, left.pop(name))
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _copy(entry, path, target, size):
    with whole_archive(path):
        source = entry.open()
    with target.open("xb") as output:
        count = 0
        while True:
            with whole_archive(path):
                chunk = source.read(READ_BYTES)
                count += len(chunk)
                if count > size or (not chunk and count < size):
                    raise ValueError(f"{entry.name!r} has not the {size} bytes that are told")
            if not chunk:
                return
            output.write(chunk)
