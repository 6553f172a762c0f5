"""Arrays in files of a cache folder, whole or not there, and read without being loaded. Uses no TensorFlow."""

import math
import os
import pathlib

import numpy as np

from jtln_tf.config import InputError
from jtln_tf.files import check_room, lock


def cached_array(folder, name, shape, dtype, fill):
    """Returns an array of a cache folder, made where it is not there yet.

    The file gets its name when all of it is written: a kill leaves none. Of two processes that want the same array the
    second waits for the first.

    Args:
        folder: Cache folder; made where it does not exist.
        name: Name of the array, which must follow all that its content depends on.
        shape: Its shape.
        dtype: Its element type.
        fill: Called with a function `write(first_row, rows)`, which it calls for all rows in any order. What it raises
            is passed on, and there is no array then.

    Returns:
        Read-only `np.memmap`.

    Raises:
        InputError: If the folder cannot be written, or the disk has no room.
    """
    folder = pathlib.Path(folder)
    found = find_array(folder, name, shape, dtype)
    if found is not None:
        # Without the lock: the folder may be one that can only be read.
        return found
    failures = []

    def fill_or_note(write):
        try:
            fill(write)
        except OSError as error:
            failures.append(error)
            raise

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / f"{name}.lock"):
            if find_array(folder, name, shape, dtype) is None:
                size = math.prod(shape) * np.dtype(dtype).itemsize
                check_room(folder, size, "cache_dir", "another folder, or --cache=none")
                _write(_path(folder, name), shape, dtype, fill_or_note)
            return find_array(folder, name, shape, dtype)
    except OSError as error:
        if error in failures:
            raise
        raise _unwritable(folder, error) from error


def _path(folder, name):
    return pathlib.Path(folder, f"{name}.npy")


def _unwritable(folder, error):
    return InputError(
        f"`cache_dir` must be a folder that can be written. Received: {str(folder)!r} ({error.strerror})."
    )


def find_array(folder, name, shape, dtype):
    """Returns what `cached_array` made, or None where it is not there; the arguments are its own."""
    try:
        array = np.load(_path(folder, name), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == tuple(shape) and array.dtype == np.dtype(dtype) else None


def _write(path, shape, dtype, fill):
    # One name for all: whoever holds the lock may remove what a killed process left.
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": tuple(shape)}
            )
            start, row_bytes = file.tell(), math.prod(shape[1:]) * np.dtype(dtype).itemsize

            def write(first_row, rows):
                # Not into a memory map: a full disk would kill the process there.
                try:
                    file.seek(start + int(first_row) * row_bytes)
                    file.write(np.ascontiguousarray(rows, dtype).data)
                except OSError as error:
                    raise _unwritable(path.parent, error) from error

            fill(write)
            file.truncate(start + shape[0] * row_bytes)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
