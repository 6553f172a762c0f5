"""Reads single records from large files, ArrayRecord or TFRecord, without TensorFlow."""

import os
import struct
from collections.abc import Callable, Sequence

import numpy as np

from jtln_tf.config import InputError
from jtln_tf.files import first_line

_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
# A TFRecord is its length, a checksum of the length, the data and a checksum of the data.
_LENGTH, _CHECKSUM_BYTES = struct.Struct("<Q"), 4


class RecordReader:
    """Reads records by number; the numbers count through all files.

    Attributes:
        paths: Paths of the files.
        content: Text that changes with the content of the records; empty if there is no such text.
    """

    def __init__(self, paths: Sequence[str], sizes: Sequence[int], content: str = "", open_shard: Callable = None):
        """Opens no file yet; `sizes` are the numbers of records, and `open_shard` is `open_array_record` if None."""
        self.paths, self.content = paths, content
        self._sizes, self._ends = sizes, np.cumsum(sizes)
        self._open, self._shards = open_shard or open_array_record, {}

    def read(self, numbers: Sequence[int]) -> np.ndarray:
        """Returns the records at `numbers`, an object array of bytes [N]; `InputError` if a file is damaged."""
        numbers = np.asarray(numbers)
        shards = np.searchsorted(self._ends, numbers, side="right")
        found = np.empty(len(numbers), object)
        for shard in np.unique(shards):
            chosen = np.flatnonzero(shards == shard)
            first = self._ends[shard - 1] if shard else 0
            try:
                # One call for each file, whose reader fetches the records in parallel.
                found[chosen] = self._shard(shard).read((numbers[chosen] - first).tolist())
            except (RuntimeError, ValueError, IndexError, OSError) as error:
                received = f"{self.paths[shard]!r} ({first_line(error)})"
                raise InputError(f"A shard must be whole. Received: {received}.") from error
        return found

    def _shard(self, number):
        if number not in self._shards:
            shard = self._open(self.paths[number])
            # ArrayRecord reads a file that was cut short without an error, as empty records.
            if shard.num_records() != self._sizes[number]:
                raise ValueError(f"it has {shard.num_records()} of {self._sizes[number]} records")
            self._shards[number] = shard
        return self._shards[number]


def open_array_record(path: str):
    """Opens an ArrayRecord file."""
    from array_record.python.array_record_module import ArrayRecordReader

    return ArrayRecordReader(path, _OPTIONS)


class TFRecordShard:
    """Reads records of a TFRecord file in any order, which TensorFlow itself cannot."""

    def __init__(self, path: str):
        """Finds where each record begins; reads none."""
        self._path, self._places = path, []
        place, end = 0, os.path.getsize(path)
        with open(path, "rb", buffering=0) as file:
            while place < end:
                header = os.pread(file.fileno(), _LENGTH.size, place)
                (length,) = _LENGTH.unpack(header.ljust(_LENGTH.size, b"\0"))
                place += _LENGTH.size + _CHECKSUM_BYTES
                self._places.append((place, length))
                place += length + _CHECKSUM_BYTES
        if place != end:
            raise ValueError("it breaks off")

    def num_records(self) -> int:
        """Returns the number of records."""
        return len(self._places)

    def read(self, positions: Sequence[int]) -> list[bytes]:
        """Returns the records at `positions`."""
        # Opened each time: a large data set has more files than a process may hold open.
        with open(self._path, "rb", buffering=0) as file:
            places = [self._places[position] for position in positions]
            return [os.pread(file.fileno(), length, place) for place, length in places]
