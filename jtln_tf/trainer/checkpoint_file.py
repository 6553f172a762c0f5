"""One file of a checkpoint: arrays by name in an `.npz` file that ends with a digest of all its other bytes."""

import contextlib
import hashlib
import os
import pathlib
import typing
import zipfile
from collections.abc import Iterator, Mapping

import numpy as np

from jtln_tf import files
from jtln_tf.config import InputError

_DIGEST_BYTES = hashlib.sha256().digest_size
_CHUNK_BYTES = 2**20
# The record that ends a zip file without a comment.
_END_MARK, _END_BYTES = b"PK\x05\x06", 22


def write_arrays(file: typing.BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to a new file that can be read too, and waits until they are on the disk."""
    np.savez(file, **arrays)
    # A comment ends a zip file: the file stays one that NumPy reads.
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = bytes(_DIGEST_BYTES)
    digest = _digest(file)
    file.seek(-_DIGEST_BYTES, os.SEEK_END)
    file.write(digest)
    files.sync(file)


@contextlib.contextmanager
def open_arrays(path: pathlib.Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Opens a file whose digest fits; `InputError`, in one line, for any damage, also for what is missed inside."""
    try:
        # A pipe would be waited for.
        if not os.path.isfile(path):
            raise ValueError("no file" if os.path.lexists(path) else "missing")
        with path.open("rb") as file:
            _check_digest(file)
            with np.load(file, allow_pickle=False) as arrays:
                yield arrays
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        # NumPy and zipfile raise all of these for a damaged file.
        raise InputError(
            f"A checkpoint must be whole and of this run. Received: {str(path)!r} ({files.first_line(error)})."
        ) from error


def _check_digest(file):
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - max(_END_BYTES, _DIGEST_BYTES)))
    tail = file.read()
    # Older releases wrote no digest; the checksums inside such a file have to do.
    is_older = tail[-_END_BYTES:].startswith(_END_MARK) and tail.endswith(b"\0\0")
    if not is_older and (size <= _DIGEST_BYTES or _digest(file) != tail[-_DIGEST_BYTES:]):
        raise ValueError("its checksum does not fit")
    file.seek(0)


def _digest(file):
    left = file.seek(0, os.SEEK_END) - _DIGEST_BYTES
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.digest()
