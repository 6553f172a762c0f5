"""Arrays in files of a cache folder: whole or not there, and mapped instead of loaded. Uses no TensorFlow."""

import contextlib
import math
import os
import pathlib
from collections.abc import Callable

import numpy as np

from jtln_tf.config import InputError
from jtln_tf.files import check_room, lock


def cached_array(folder: str, name: str, shape: tuple[int, ...], dtype: type, fill: Callable) -> np.memmap:
    """Returns an array of a cache folder, mapped and read-only; makes it first if it is not there.

    The file gets its name when all of it is written, so a kill leaves no array. If two processes want the same array,
    the second waits for the first.

    Args:
        folder: Cache folder; it need not exist.
        name: Name of the array; it must change with everything that the content depends on.
        shape: Shape of the array.
        dtype: Type of its elements.
        fill: Called with a function `write(first_row, rows)`, which it calls for all rows in any order. Its errors
            pass unchanged, and leave no array.

    Raises:
        InputError: If the folder cannot be written, or the disk has no room.
    """
    folder = pathlib.Path(folder)
    found = find_array(folder, name, shape, dtype)
    if found is not None:
        # Without the lock: the folder may be read-only.
        return found
    with contextlib.ExitStack() as stack:
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock(folder / f"{name}.lock"))
        if find_array(folder, name, shape, dtype) is None:
            size = math.prod(shape) * np.dtype(dtype).itemsize
            check_room(folder, size, "cache_dir", "another folder, or --cache=none")
            _write(folder / f"{name}.npy", shape, dtype, fill)
        return find_array(folder, name, shape, dtype)


def find_array(folder: str, name: str, shape: tuple[int, ...], dtype: type) -> np.memmap | None:
    """Returns the array that `cached_array` made with the same arguments, or None if it is not there."""
    try:
        array = np.load(pathlib.Path(folder, f"{name}.npy"), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == tuple(shape) and array.dtype == np.dtype(dtype) else None


@contextlib.contextmanager
def _writing(folder):
    try:
        yield
    except OSError as error:
        received = f"{str(folder)!r} ({error.strerror})"
        raise InputError(f"`cache_dir` must be a folder that can be written. Received: {received}.") from error


def _write(path, shape, dtype, fill):
    # One name for all processes: the holder of the lock overwrites what a killed one left.
    unfinished = path.with_name(f"{path.name}.unfinished")
    row_bytes = math.prod(shape[1:]) * np.dtype(dtype).itemsize
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": tuple(shape)}
    try:
        with contextlib.ExitStack() as stack:
            with _writing(path.parent):
                file = stack.enter_context(unfinished.open("wb"))
                np.lib.format.write_array_header_1_0(file, header)
                start = file.tell()

            def write(first_row, rows):
                # Not into a memory map, where a full disk would kill the process.
                with _writing(path.parent):
                    file.seek(start + int(first_row) * row_bytes)
                    file.write(np.ascontiguousarray(rows, dtype).data)

            fill(write)
            with _writing(path.parent):
                file.truncate(start + shape[0] * row_bytes)
                file.flush()
                os.fsync(file.fileno())
                os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
