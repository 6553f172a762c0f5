"""The images of a split: arrays, paths of files, or numbers of records in large files."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from jtln_tf.data.reading.content_keys import keys_of_bytes, keys_of_files
from jtln_tf.data.reading.record_reader import RecordReader

# TensorFlow gathers fastest from its own copy; larger arrays are not copied.
_COPIED_BYTES = 2**28
_RECORDS_AT_ONCE = 256
# Keys of records by number, by what identifies their files.
_known_records = {}


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Images of one of the three kinds below; `images[rows]` and `np.asarray(images)` give their values.

    Attributes:
        values: One entry for each image: pixels, paths or numbers.
        is_decoded: Whether the values are what a network takes.
        most_compared: Comparing more images than this takes too long.
    """

    values: np.ndarray
    is_decoded, most_compared = False, float("inf")

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows):
        return self.values[rows]

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype, copy=copy)

    def take(self, rows: Sequence[int]) -> "Images":
        """Returns the images at `rows`, in that order."""
        return dataclasses.replace(self, values=self.values[rows])

    def digest(self, rows: Sequence[int]) -> list[bytes]:
        """Returns a digest of each image at `rows`; it is equal for equal pixels, or for files of equal bytes."""
        return [hashlib.sha256(content).digest() for content in self.contents(rows)]

    def keys(self) -> np.ndarray:
        """Returns a number for the content of each image, uint64 [N]: equal for equal images; see `content_keys`."""
        return keys_of_bytes(self.contents(range(len(self))))

    def describe(self, row: int) -> str:
        """Returns the name of an image in messages."""
        return repr(self.values[row])

    def find_missing(self) -> str:
        """Returns the name of an image whose file has gone, or an empty text."""
        return ""


class Pixels(Images):
    """Arrays that a network takes unchanged, in memory or mapped from a file.

    They are uint8 pixels [N, H, W, C], or activations of the frozen part of a network, float32 [N, ...].
    """

    is_decoded = True

    def contents(self, rows: Sequence[int]) -> Iterator[memoryview]:
        """Yields the bytes of the arrays at `rows`."""
        return (np.ascontiguousarray(self.values[row]).data.cast("B") for row in rows)

    def stream(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the arrays [b, ...] for batches of rows."""
        if isinstance(self.values, np.memmap) or self.values.nbytes > _COPIED_BYTES:
            return _call(lambda rows: np.asarray(self.values[rows]), batches, self.values.dtype, self.values.shape[1:])
        images = constant_on_cpu(self.values)
        return batches.map(lambda rows: tf.gather(images, rows), num_parallel_calls=1)

    def fingerprint(self, digest) -> None:
        """Updates a hash with all pixels."""
        digest.update(np.ascontiguousarray(self.values).tobytes())


class Files(Images):
    """Paths of image files, [N] texts."""

    # Makes an encoded image of an entry, in TensorFlow.
    to_bytes = staticmethod(tf.io.read_file)

    def contents(self, rows: Sequence[int]) -> Iterator[bytes]:
        """Yields the bytes of the files at `rows`."""
        for row in rows:
            with open(self.values[row], "rb") as file:
                yield file.read()

    def digest(self, rows: Sequence[int]) -> list[bytes]:
        """Returns a digest of each file at `rows`; a process reads a file once for it."""
        return [_digest_file(path, *_version(path)) for path in self.values[rows]]

    def keys(self) -> np.ndarray:
        """Returns a number for the content of each file; a process reads a file once for it."""
        return keys_of_files(self.values)

    def entries(self, rows: Sequence[int]) -> list[str]:
        """Returns the texts that `to_bytes` takes."""
        return self.values[rows].tolist()

    def stream(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the entries [b] for batches of rows."""
        paths = constant_on_cpu(self.values.tolist(), tf.string)
        return batches.map(lambda rows: tf.gather(paths, rows))

    def fingerprint(self, digest) -> None:
        """Updates a hash with the sizes of the files; it opens none."""
        for path in self.values:
            digest.update(f"{os.path.getsize(path)},".encode())

    def identify(self, digest) -> None:
        """Updates a hash with what decoded pixels depend on: paths, sizes and times."""
        digest.update(json.dumps(_identify_files(self.values)).encode())

    def find_missing(self) -> str:
        """Returns the name of the first file that has gone, or an empty text."""
        return next((repr(path) for path in self.values if not os.path.exists(path)), "")


@dataclasses.dataclass(frozen=True, eq=False)
class Records(Images):
    """Numbers of records, int [N], each of which is an image file.

    Attributes:
        reader: `RecordReader` of the numbers.
    """

    reader: RecordReader

    # All of each record must be read; this takes a few seconds.
    most_compared = 20_000
    to_bytes = staticmethod(tf.identity)

    def contents(self, rows: Sequence[int]) -> Iterator[bytes]:
        """Yields the records at `rows`; it holds a few of them at a time."""
        for start in range(0, len(rows), _RECORDS_AT_ONCE):
            yield from self.entries(rows[start : start + _RECORDS_AT_ONCE])

    def keys(self) -> np.ndarray:
        """Returns a number for the content of each record; a process reads a record once for it."""
        known = _known_records.setdefault(json.dumps(_identify_files(self.reader.paths)), {})
        numbers = [number for number in self.values.tolist() if number not in known]
        contents = dataclasses.replace(self, values=np.array(numbers, np.int64)).contents(range(len(numbers)))
        known.update(zip(numbers, keys_of_bytes(contents).tolist(), strict=True))
        return np.array([known[number] for number in self.values.tolist()], "u8")

    def entries(self, rows: Sequence[int]) -> list[bytes]:
        """Returns the encoded images at `rows`."""
        return self.reader.read(self.values[rows]).tolist()

    def stream(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the encoded images [b] for batches of rows."""
        return _call(lambda rows: self.reader.read(self.values[rows]), batches, tf.string).prefetch(2)

    def fingerprint(self, digest) -> None:
        """Updates a hash with what the reader knows of the content of its records; it reads none."""
        digest.update(self.reader.content.encode())

    def identify(self, digest) -> None:
        """Updates a hash with what decoded pixels depend on: the content, or else the files, and the numbers."""
        content = self.reader.content or _identify_files(self.reader.paths)
        digest.update(json.dumps([content, self.values.tolist()]).encode())

    def describe(self, row: int) -> str:
        """Returns the name of an image in messages."""
        return f"record {self.values[row]}"


def as_images(values: Images | np.ndarray) -> Images:
    """Returns images of one of the three kinds; an array of texts holds paths, another array holds pixels."""
    if isinstance(values, Images):
        return values
    values = np.asanyarray(values)
    return Files(values.astype(object)) if values.dtype.kind in "OU" else Pixels(values)


def constant_on_cpu(values, dtype=None) -> tf.Tensor:
    """Returns a constant in the computer's memory: a GPU's memory is for the network."""
    with tf.device("CPU:0"):
        return tf.constant(values, dtype)


def _call(read, batches, dtype, shape=()):
    """Returns what a Python function reads for batches of rows: tensors [b, *shape]."""

    def read_batch(rows):
        return tf.ensure_shape(tf.numpy_function(read, [rows], dtype), (None, *shape))

    # Cheap next to a training step: one batch at a time is enough.
    return batches.map(read_batch, num_parallel_calls=1)


def _version(path):
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(2**20)
def _digest_file(path, size, time):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _identify_files(paths):
    """Returns the path, size and time of each file; of a link to nothing, which decoding reports, only the path."""
    found = [(path, os.stat(path) if os.path.exists(path) else None) for path in paths]
    return [[path, status.st_size, status.st_mtime_ns] if status else [path] for path, status in found]
