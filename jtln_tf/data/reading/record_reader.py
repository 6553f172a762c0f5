"""Reading of single records from files of many. Uses no TensorFlow."""

import numpy as np

from jtln_tf.config import InputError

_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


class RecordReader:
    """Reads records by their number, counted through all shards of all splits."""

    def __init__(self, paths, sizes):
        """Opens no file yet.

        Args:
            paths: Paths of the shards.
            sizes: Records in each.
        """
        self._paths, self._sizes, self._ends = list(paths), list(sizes), np.cumsum(sizes)
        self._readers = {}

    def read(self, numbers):
        """Returns the bytes of the records at `numbers`, an object array [N].

        Raises:
            InputError: If a shard has gone or is damaged.
        """
        numbers = np.asarray(numbers)
        shards = np.searchsorted(self._ends, numbers, side="right")
        found = np.empty(len(numbers), object)
        for shard in np.unique(shards):
            chosen = np.flatnonzero(shards == shard)
            first = self._ends[shard - 1] if shard else 0
            try:
                # One call a shard: its reader fetches them side by side.
                found[chosen] = self._reader(shard).read((numbers[chosen] - first).tolist())
            except (RuntimeError, ValueError, IndexError, OSError) as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"A shard must be whole. Received: {self._paths[shard]!r} ({reason}).") from error
        return found

    def _reader(self, shard):
        if shard not in self._readers:
            from array_record.python.array_record_module import ArrayRecordReader

            reader = ArrayRecordReader(self._paths[shard], _OPTIONS)
            # To a file that is cut short it gives no error, and empty records.
            if reader.num_records() != self._sizes[shard]:
                raise ValueError(f"it has {reader.num_records()} of {self._sizes[shard]} records")
            self._readers[shard] = reader
        return self._readers[shard]
