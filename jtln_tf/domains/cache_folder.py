"""A cache folder that several processes write: one at a time, where there is room. Uses no TensorFlow."""

import contextlib
import fcntl
import shutil

from jtln_tf.config import InputError

_SPARE_BYTES = 16 * 2**20


@contextlib.contextmanager
def lock(path):
    """Lets one process at a time in; the others wait.

    Args:
        path: `pathlib.Path` of the lock's file, which stays.
    """
    # The kernel lets go of the lock of a process that is killed.
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_room(folder, needed_bytes, hint):
    """Raises `InputError` if a folder's disk has no room for so many bytes; the hint says what else to do."""
    free, needed = shutil.disk_usage(folder).free, needed_bytes + _SPARE_BYTES
    if free < needed:
        raise InputError(
            f"`cache_dir` must have {needed / 2**20:.0f} MiB free. Received: {str(folder)!r} with "
            f"{free / 2**20:.0f} MiB. Hint: {hint}."
        )
