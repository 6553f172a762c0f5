"""Files and folders that a run writes: whole or not at all, one process at a time, and only over what is its own.

Imports neither TensorFlow nor any other room but `config`.
"""

import contextlib
import fcntl
import fnmatch
import json
import os
import pathlib
import re
import shutil
import typing
from collections.abc import Callable, Iterator

from jtln_tf.config import InputError

# Beside what is needed: logs, and what other programs write meanwhile.
_SPARE_BYTES = 16 * 2**20
# Limit, use and statistics of the memory of a control group, in both versions of Linux's.
_GROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
# Of the name of a file that a killed process left behind: what it was to be called, and the process.
_UNFINISHED = re.compile(r"(.+)\.\d+\.unfinished")
_CACHE_FOLDER = ".jtln_cache"
MARK_FILE = "jtln_tf.json"
_LONGEST_REASON = 200


@contextlib.contextmanager
def open_whole(path: str | os.PathLike) -> Iterator[typing.BinaryIO]:
    """Opens a file for writing such that a kill, a power cut or an error inside leaves the old one or the new one."""
    path = pathlib.Path(path)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("w+b") as file:
            yield file
            sync(file)
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def sync(file: typing.BinaryIO) -> None:
    """Waits until what was written to a file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder):
    # Not every file system can.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file such that a kill leaves the old one or the new one."""
    with open_whole(path) as file:
        file.write(content if isinstance(content, bytes) else content.encode("utf-8"))


def write_json(path: str | os.PathLike, values: object) -> None:
    """Writes JSON values to a file, whole or not at all."""
    write_whole(path, to_json(values, indent=2) + "\n")


def to_json(values: object, indent: int | None = None) -> str:
    """Returns JSON in which letters of any language can be read, but half a surrogate pair is escaped.

    Python has such halves in file names that are not UTF-8, and they cannot be written otherwise.
    """
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()


def read_json_lines(path: str | os.PathLike) -> tuple[list[dict], int]:
    """Returns the JSON objects of a file of lines, and how many whole lines are none; a last line cut short is skipped.

    A missing file has no lines. Raises `InputError` for what cannot be read as a file.
    """
    if not os.path.lexists(path):
        return [], 0
    try:
        # A pipe would be waited for.
        if not os.path.isfile(path):
            raise OSError("no plain file")
        lines = pathlib.Path(path).read_text("utf-8", "replace").split("\n")[:-1]
    except OSError as error:
        raise InputError(f"A log must be a file. Received: {os.fspath(path)!r} ({first_line(error)}).") from error
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                found.append(entry)
    return found, len(lines) - len(found)


@contextlib.contextmanager
def lock(path: pathlib.Path) -> Iterator[None]:
    """Lets one process in at a time; the others wait. The lock's file stays."""
    # The kernel releases the lock of a process that is killed. Appending leaves what is in a file of this name.
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_room(folder: str | os.PathLike, needed_bytes: int, option: str, hint: str = "") -> None:
    """Raises `InputError` if a disk has no room for so many bytes and a small reserve.

    Args:
        folder: Folder on the disk; need not exist yet.
        needed_bytes: What is going to be written.
        option: The argument that named the folder.
        hint: What else the user can do.
    """
    free, needed = shutil.disk_usage(nearest_existing(folder)).free, needed_bytes + _SPARE_BYTES
    if free < needed:
        raise InputError(
            f"`{option}` must have {needed / 2**20:.0f} MiB free. Received: {str(folder)!r} with "
            f"{free / 2**20:.0f} MiB.{f' Hint: {hint}.' if hint else ''}"
        )


def available_memory() -> int:
    """Returns the bytes that may still be taken, including pages that hold copies of files.

    That is what the machine has, or what the process's control group (a container, a job of a scheduler) has left.
    """
    left = [_left_of_group(*names) for names in _GROUP_FILES]
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
        left.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    except (OSError, StopIteration):
        left.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return max(0, min(one for one in left if one is not None))


def _left_of_group(limit, used, statistics):
    """Returns what a control group has left, or None if there is none. Pages of files that can be dropped are free."""
    group = pathlib.Path("/sys/fs/cgroup")
    try:
        counts = dict(line.split() for line in (group / statistics).read_text().splitlines())
        dropped = int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))
        return int((group / limit).read_text()) - int((group / used).read_text()) + dropped
    except (OSError, ValueError):
        # Without a limit the file says so in a word.
        return None


def default_cache_folder(data_root: str = "") -> str:
    """Returns the cache folder that is used if none is named."""
    return os.path.join(data_root, _CACHE_FOLDER)


def nearest_existing(path: str | os.PathLike) -> pathlib.Path:
    """Returns the path, or the nearest folder above it that exists."""
    path = pathlib.Path(path)
    # Path.exists raises for a folder that may not be looked into; os.path.exists does not.
    return next(one for one in (path, *path.absolute().parents) if os.path.exists(one))


def first_line(error: object, most: int | None = _LONGEST_REASON) -> str:
    """Returns the first line of an error's text, or the name of its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:most]


def escape_name(text: str, can_show: Callable[[str], bool] = str.isprintable) -> list[str]:
    """Returns the characters of a name as pieces of text; a character that cannot be shown becomes its code."""
    return [character if can_show(character) else character.encode("unicode_escape").decode() for character in text]


def mark_folder(folder: str | os.PathLike, kind: str, version: int = 1, name: str = "") -> None:
    """Marks a folder as written by this program: only what carries the mark is ever removed, see `remove_marked`.

    `name` tells folders of one kind apart, see `marked_name`.
    """
    mark = {"program": "jtln_tf", "kind": kind, "version": version}
    write_json(pathlib.Path(folder) / MARK_FILE, mark | ({"name": name} if name else {}))


def marked_version(folder: str | os.PathLike, kind: str) -> int | None:
    """Returns the version of a folder marked as of a kind, or None if it carries no such mark."""
    return _read_mark(folder, kind)[0]


def marked_name(folder: str | os.PathLike, kind: str) -> str:
    """Returns the name that a folder of a kind was marked with; empty if it has none."""
    return _read_mark(folder, kind)[1]


def _read_mark(folder, kind):
    path = pathlib.Path(folder) / MARK_FILE
    # A pipe would be waited for.
    if not os.path.isfile(path):
        return None, ""
    try:
        mark = json.loads(path.read_text("utf-8"))
        is_ours = mark["program"] == "jtln_tf" and mark["kind"] == kind
        return (int(mark["version"]), str(mark.get("name", ""))) if is_ours else (None, "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, ""


def remove_marked(folder: str | os.PathLike, kind: str, own_names: tuple[str, ...], option: str) -> None:
    """Removes a folder that this program wrote, if it exists.

    Args:
        folder: The folder.
        kind: Kind that its mark must name.
        own_names: Paths, or shell patterns of them, of everything that the program writes inside it.
        option: The argument that named the folder, for messages.

    Raises:
        InputError: If the folder carries no such mark, is a link, or holds anything else; nothing is removed then.
            A folder with nothing in it needs no mark.
    """
    check_marked(folder, kind, own_names, option)
    if os.path.lexists(folder):
        remove_whole(folder)


def remove_whole(folder: str | os.PathLike) -> None:
    """Removes a folder, its mark last: what a kill leaves of it can still be removed."""
    for one in pathlib.Path(folder).iterdir():
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        elif one.name != MARK_FILE:
            one.unlink()
    shutil.rmtree(folder)


def is_left_over(path: pathlib.Path, own_names: tuple[str, ...]) -> bool:
    """Whether a killed process left a file that was to get one of these names."""
    match = _UNFINISHED.fullmatch(path.name)
    return match is not None and _is_one_of(match[1], (*own_names, MARK_FILE))


def holds_mark(folder: str | os.PathLike) -> bool:
    """Whether a folder holds a file of a mark's name, of whatever kind and content."""
    return os.path.lexists(pathlib.Path(folder) / MARK_FILE)


def check_marked(folder: str | os.PathLike, kind: str, own_names: tuple[str, ...], option: str) -> None:
    """Checks that `remove_marked` may remove a folder; takes the same arguments and raises the same errors."""
    folder = pathlib.Path(folder)
    if not os.path.lexists(folder):
        return
    # A process that is killed while it marks a new folder leaves it empty, or with half a mark.
    is_new = not folder.is_symlink() and folder.is_dir() and all(is_left_over(one, ()) for one in folder.iterdir())
    if folder.is_symlink() or (marked_version(folder, kind) is None and not is_new):
        raise InputError(
            f"`{option}` must be a new folder, or one of kind {kind!r} that this program wrote and marked with "
            f"{MARK_FILE}. Received: {str(folder)!r}, which is left as it is."
        )
    own = (*own_names, MARK_FILE)
    paths = [one for one in folder.rglob("*") if not is_left_over(one, own_names)]
    foreign = sorted(name for one in paths if not _is_one_of(name := str(one.relative_to(folder)), own))
    if foreign:
        raise InputError(
            f"`{option}` must hold nothing but what this program wrote. Received: {str(folder)!r} with {foreign[0]!r}, "
            "which is left as it is."
        )


def _is_one_of(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@contextlib.contextmanager
def sole_writer(path: str | os.PathLike, option: str) -> Iterator[None]:
    """Holds a lock on a file, which stays, while its folder is written; raises `InputError` if another process does."""
    # Appending leaves what is in a file of this name.
    with pathlib.Path(path).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"`{option}` must not be in use by another process. Received: {str(pathlib.Path(path).parent)!r}."
            ) from error
        yield
