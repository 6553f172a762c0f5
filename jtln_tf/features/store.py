"""Activations of single images, kept in files of a cache folder that are written whole and never changed.

Any number of processes may read and write at once without a lock: two that compute the same image both write it, and
readers take either. Uses no TensorFlow.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import time
import uuid
import zlib
from collections.abc import Sequence

import numpy as np

from jtln_tf.config import InputError
from jtln_tf.features.stored_rows import StoredRows
from jtln_tf.files import is_left_over, mark_folder, marked_version, open_whole

KIND, VERSION = "activations", 1
KEY_BYTES = 16
SHARD_NAMES = "shard_*.arrays"
# A kill loses at most one shard.
_SHARD_IMAGES, _SHARD_BYTES = 1024, 2**28
# After this time, nobody is still writing an unfinished file.
_LEFT_OVER_SECONDS = 24 * 3600
# The checksum finds rows that a damaged disk has changed.
_ENTRY = np.dtype([("key", f"V{KEY_BYTES}"), ("checksum", "<u4")])


@dataclasses.dataclass(frozen=True, eq=False)
class Shard:
    """One file of a store.

    Attributes:
        path: The file; None if the shard is only in memory.
        entries: Key and checksum of each row, [n].
        values: Activations, float32 [n, ...], mapped from the file.
    """

    path: pathlib.Path | None
    entries: np.ndarray
    values: np.ndarray


class ActivationStore:
    """Activations of one trunk by key, float32 [...] each; on the disk, or in memory only.

    Attributes:
        folder: Folder of the trunk's shards, or None.
    """

    def __init__(self, cache_dir: str | os.PathLike | None, trunk: str, shape: Sequence[int]):
        """Opens the activations of a trunk.

        Args:
            cache_dir: Cache folder, which need not exist; None keeps the activations in memory only.
            trunk: Fingerprint of the trunk's layers and weights.
            shape: Shape of the activations of one image.
        """
        self.folder = None if cache_dir is None else store_folder(cache_dir) / trunk
        self._shape, self._shards = tuple(shape), []
        self._places, self._checked = {}, set()
        self._waiting_keys, self._waiting_values = [], []
        self._used, self._opened = set(), set()
        self.look_again()

    def look_again(self) -> None:
        """Opens the shards that other processes have written meanwhile."""
        for path in sorted(self.folder.glob(SHARD_NAMES)) if self.folder else ():
            if path not in self._opened:
                self._opened.add(path)
                self._add(read_shard(path))

    @property
    def row_bytes(self) -> int:
        """Size of the activations of one image."""
        return 4 * math.prod(self._shape)

    def find(self, keys: Sequence[bytes]) -> np.ndarray:
        """Returns whether the activations of each key are there and undamaged, bool [N]."""
        return np.array([self._check(key) for key in keys], bool)

    def write(self, key: bytes, values: np.ndarray) -> None:
        """Adds the activations of a key; they are kept from the next `flush` on, which a full shard calls itself.

        Raises:
            InputError: If the cache folder cannot be written, or the disk has no room.
        """
        self._waiting_keys.append(key)
        self._waiting_values.append(np.asarray(values, np.float32))
        if len(self._waiting_keys) >= min(_SHARD_IMAGES, max(1, _SHARD_BYTES // self.row_bytes)):
            self.flush()

    def flush(self) -> None:
        """Writes what is waiting as one shard; raises like `write`."""
        if not self._waiting_keys:
            return
        values = np.stack(self._waiting_values)
        entries = np.empty(len(values), _ENTRY)
        entries["key"] = np.frombuffer(b"".join(self._waiting_keys), entries["key"].dtype)
        entries["checksum"] = [_checksum(key, row) for key, row in zip(self._waiting_keys, values, strict=True)]
        self._waiting_keys, self._waiting_values = [], []
        shard = Shard(None, entries, values)
        if self.folder:
            path = self._write(entries, values)
            self._opened.add(path)
            shard = read_shard(path) or shard
        self._add(shard)

    def rows(self, keys: Sequence[bytes]) -> StoredRows:
        """Returns the activations of keys that `find` found or `write` added; they are read when they are indexed."""
        places = np.array([self._places[key] for key in keys], np.int64).reshape(-1, 2)
        self._touch(set(places[:, 0].tolist()))
        return StoredRows([shard.values for shard in self._shards], places, self._shape)

    def trim(self, limit_bytes: float) -> None:
        """Removes the shards of all trunks that were not used for longest until the rest fits; none of this run."""
        if self.folder:
            in_use = {self._shards[number].path for number in self._used}
            # The folder may be read-only.
            with contextlib.suppress(OSError):
                remove_unused(self.folder.parent, limit_bytes, in_use)

    def _add(self, shard):
        if shard is None or shard.values.shape[1:] != self._shape:
            return
        number = len(self._shards)
        self._shards.append(shard)
        keys = shard.entries["key"].tobytes()
        for row in range(len(shard.entries)):
            self._places[keys[row * KEY_BYTES : (row + 1) * KEY_BYTES]] = (number, row)

    def _check(self, key):
        if key in self._checked:
            return True
        if key not in self._places:
            return False
        number, row = self._places[key]
        shard = self._shards[number]
        if _checksum(key, shard.values[row]) != shard.entries["checksum"][row]:
            # It is computed again, and no later run meets the damaged one.
            del self._places[key]
            if shard.path:
                with contextlib.suppress(OSError):
                    shard.path.unlink()
            return False
        self._checked.add(key)
        return True

    def _touch(self, numbers):
        for number in numbers - self._used:
            if self._shards[number].path:
                # The folder may be read-only.
                with contextlib.suppress(OSError):
                    os.utime(self._shards[number].path)
        self._used |= numbers

    def _write(self, entries, values):
        path = self.folder / SHARD_NAMES.replace("*", uuid.uuid4().hex)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if marked_version(self.folder, KIND) is None:
                mark_folder(self.folder, KIND, VERSION)
            with open_whole(path) as file:
                for array in (entries, values):
                    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
                    # NumPy's own writing does not tell why it failed.
                    file.write(array.data)
        except OSError as error:
            received = f"{str(self.folder)!r} ({error.strerror})"
            raise InputError(f"`cache_dir` must be a folder that can be written. Received: {received}.") from error
        return path


def store_folder(cache_dir: str | os.PathLike) -> pathlib.Path:
    """Returns the folder of the activations of all trunks."""
    return pathlib.Path(cache_dir) / KIND


def read_shard(path: pathlib.Path) -> Shard | None:
    """Opens a shard; returns None if it has gone, or is damaged or cut short."""
    try:
        with path.open("rb") as file:
            entries = np.lib.format.read_array(file, allow_pickle=False)
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            values = np.memmap(path, dtype, "r", file.tell(), shape)
    # NumPy raises all of these for a damaged header.
    except (OSError, ValueError, EOFError, TypeError, MemoryError, OverflowError):
        return None
    is_whole = entries.dtype == _ENTRY and entries.shape == shape[:1] and dtype == np.float32
    return Shard(path, entries, values) if is_whole else None


def remove_unused(folder: pathlib.Path, limit_bytes: float, in_use: set[pathlib.Path]) -> None:
    """Removes the shards in the trunks' folders that were not used for longest, until the rest fits a limit."""
    found = []
    for path in (path for one in trunk_folders(folder) for path in one.iterdir()):
        # Another process may remove it meanwhile.
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if path.match(SHARD_NAMES):
                found.append((path, status))
            elif is_left_over(path, (SHARD_NAMES,)) and time.time() - status.st_mtime > _LEFT_OVER_SECONDS:
                path.unlink()
    total = sum(status.st_size for _, status in found)
    for path, status in sorted(found, key=lambda both: both[1].st_mtime_ns):
        if total <= limit_bytes:
            return
        if path not in in_use:
            # Whoever has mapped it can go on reading.
            path.unlink(missing_ok=True)
            total -= status.st_size


def trunk_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders of trunks that carry the mark of this program."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [one for one in found if not one.is_symlink() and marked_version(one, KIND) is not None]


def _checksum(key, row):
    return zlib.crc32(np.ascontiguousarray(row).data, zlib.crc32(key))
