"""Numbers that stand for the content of an image, whatever it is called and wherever it is."""

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Larger images are told by their size and some blocks, so that photographs of many megabytes cost no more than small
# ones. The rule depends on nothing but the image: a file and a record of the same bytes have the same key.
_BLOCKS, _BLOCK_BYTES = 4, 16 * 2**10
# Disks on a network answer several requests at a time.
_THREADS, _FILES_AT_ONCE = 8, 64
# Keys of files by path, size and time, so that a process reads each file once for them.
_known = {}


def keys_of_bytes(contents: Iterable[bytes | memoryview]) -> np.ndarray:
    """Returns the keys of encoded images, or of pixels: uint64 [N]."""
    return np.array(
        [_make_key(len(one), (one[start:end] for start, end in _blocks(len(one)))) for one in contents], "u8"
    )


def keys_of_files(paths: Sequence[str]) -> np.ndarray:
    """Returns the keys of the files at some paths: uint64 [N]. What cannot be read counts as empty."""
    chunks = [paths[start : start + _FILES_AT_ONCE] for start in range(0, len(paths), _FILES_AT_ONCE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        keys = pool.map(lambda chunk: [_key_of_file(path) for path in chunk], chunks)
        return np.array([key for chunk in keys for key in chunk], "u8")


def key_of_text(text: str) -> int:
    """Returns the key of a name that stands for several images; it differs from that of any content."""
    return _make_key("name", [text.encode("utf-8", "surrogatepass")])


def _key_of_file(path):
    try:
        status = os.stat(path)
        # Opening a pipe would wait for another process.
        if not stat.S_ISREG(status.st_mode):
            return _make_key(0, ())
        # A number takes a third of the memory of a path.
        place = hash((path, status.st_size, status.st_mtime_ns))
        if place not in _known:
            with open(path, "rb", buffering=0) as file:
                blocks = [os.pread(file.fileno(), end - start, start) for start, end in _blocks(status.st_size)]
            _known[place] = _make_key(status.st_size, blocks)
        return _known[place]
    except OSError:
        return _make_key(0, ())


def _blocks(size):
    """Returns the first and the last place of each part of an image that its key depends on."""
    if size <= _BLOCKS * _BLOCK_BYTES:
        return [(0, size)]
    starts = [(size - _BLOCK_BYTES) * number // (_BLOCKS - 1) for number in range(_BLOCKS)]
    return [(start, start + _BLOCK_BYTES) for start in starts]


def _make_key(size, blocks):
    digest = hashlib.sha256(f"{size},".encode())
    for block in blocks:
        digest.update(block)
    return int.from_bytes(digest.digest()[:8], "little")
