"""Arrays in files of a cache folder, whole or not there, and read without being loaded. Imports no TensorFlow."""

import contextlib
import fcntl
import math
import os
import pathlib
import shutil

import numpy as np

from jtln_tf.config import InputError

_SPARE_BYTES = 16 * 2**20


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
    path = folder / f"{name}.npy"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / f"{name}.lock"):
            if _open(path, shape, dtype) is None:
                _check_room(folder, math.prod(shape) * np.dtype(dtype).itemsize)
                _write(path, shape, dtype, fill)
            return _open(path, shape, dtype)
    except OSError as error:
        raise InputError(
            f"`cache_dir` must be a folder that can be written. Received: {str(folder)!r} ({error.strerror})."
        ) from error


@contextlib.contextmanager
def _lock(path):
    # The kernel lets go of the lock of a process that is killed.
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _open(path, shape, dtype):
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == tuple(shape) and array.dtype == np.dtype(dtype) else None


def _check_room(folder, needed_bytes):
    free, needed = shutil.disk_usage(folder).free, needed_bytes + _SPARE_BYTES
    if free < needed:
        raise InputError(
            f"`cache_dir` must have {needed / 2**20:.0f} MiB free. Received: {str(folder)!r} with "
            f"{free / 2**20:.0f} MiB. Hint: another folder, or --cache=none."
        )


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
                file.seek(start + int(first_row) * row_bytes)
                file.write(np.ascontiguousarray(rows, dtype).data)

            fill(write)
            file.truncate(start + shape[0] * row_bytes)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
