"""Entries of a zip or tar archive, which may be anyone's: its headers are read here, and no more than they may cost.

Uses no TensorFlow.
"""

import bz2
import contextlib
import dataclasses
import gzip
import lzma
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from typing import BinaryIO

from jtln_tf.config import InputError

_DECOMPRESS = {
    ".tar": lambda file: file,
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tar.xz": lzma.open,
}
ARCHIVE_SUFFIXES = (".zip", *_DECOMPRESS)
# Most bytes that are read at once: of a tar's header, which is held in memory, too.
READ_BYTES = 2**16
_TAR_BLOCK = 512
_ZIP_IS_ENCRYPTED, _ZIP_NAME_IS_UTF_8 = 0x1, 0x800


@dataclasses.dataclass(frozen=True)
class Entry:
    """What an archive says of one entry, unchecked.

    Attributes:
        name: Its path.
        kind: `file`, `folder`, or what else it is.
        num_bytes: Its size.
        packed_bytes: Its size in the archive; that of a tar's entry is not known: the same as `num_bytes`.
        open: Opens a file for reading, until the next entry is asked for.
    """

    name: str
    kind: str
    num_bytes: int
    packed_bytes: int
    open: Callable[[], BinaryIO]


def read_entries(file, path, most_bytes):
    """Yields every `Entry` of an archive.

    Args:
        file: The archive, open for reading.
        path: Its path, whose suffix tells its format.
        most_bytes: Bytes that decompressing all of a tar may give.

    Raises:
        InputError: If the archive is damaged.
    """
    file.seek(0)
    name = os.path.basename(path).lower()
    if name.endswith(".zip"):
        entries = _read_zip(file)
    else:
        decompress = next(each for suffix, each in _DECOMPRESS.items() if name.endswith(suffix))
        entries = _read_tar(file, decompress, most_bytes)
    while True:
        with whole_archive(path):
            entry = next(entries, None)
        if entry is None:
            return
        yield entry


@contextlib.contextmanager
def whole_archive(path):
    """Says of whatever goes wrong while an archive is read that it is damaged."""
    try:
        yield
    except InputError:
        raise
    # The readers raise a dozen kinds, and others for bytes that are made to break them.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"An archive must be whole. Received: {str(path)!r} ({reason}).") from error


def _read_zip(file):
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            kind = _kind_of_mode(info.external_attr >> 16)
            if kind == "file" and info.is_dir():
                kind = "folder"
            if info.flag_bits & _ZIP_IS_ENCRYPTED:
                kind = "encrypted"
            sizes = info.file_size, info.compress_size
            yield Entry(_name_in_zip(info), kind, *sizes, lambda info=info: archive.open(info))


def _kind_of_mode(mode):
    kinds = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "a link"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _name_in_zip(info):
    # As it stands there: `filename` ends at a zero byte.
    name = info.orig_filename
    if not info.flag_bits & _ZIP_NAME_IS_UTF_8:
        # macOS writes UTF-8 and does not say so.
        with contextlib.suppress(UnicodeError):
            return name.encode("cp437").decode("utf-8")
    return name


def _read_tar(file, decompress, most_bytes):
    stream = _ForwardStream(decompress(file), most_bytes)
    archive = tarfile.TarFile(fileobj=stream, mode="r", encoding="utf-8")
    while (info := archive.next()) is not None:
        # It would hold them all.
        archive.members.clear()
        yield Entry(info.name, _kind_in_tar(info), info.size, info.size, lambda info=info: archive.extractfile(info))
    # To a header that is none tarfile gives no error behind the first.
    if stream.last != bytes(_TAR_BLOCK):
        raise ValueError("it breaks off")
    # The checksum of a compressed file comes at its very end.
    while stream.read(READ_BYTES):
        pass


def _kind_in_tar(info):
    if info.issparse():
        return "a sparse file"
    if info.issym() or info.islnk():
        return "a link"
    return "file" if info.isreg() else "folder" if info.isdir() else "a device"


class _ForwardStream:
    """What tarfile reads from: never back, as a negative size asks for, and neither too much at once nor in all."""

    def __init__(self, file, most_bytes):
        self._file, self._most, self.last = file, most_bytes, b""

    def tell(self):
        return self._file.tell()

    def seek(self, position):
        if position < self.tell():
            raise ValueError("an entry has a size below zero")
        self._check(position)
        return self._file.seek(position)

    def read(self, size):
        if not 0 <= size <= READ_BYTES:
            raise ValueError(f"a header has {size} bytes")
        self._check(self.tell() + size)
        self.last = self._file.read(size)
        return self.last

    def _check(self, position):
        if position > self._most:
            raise ValueError(f"it unpacks to more than {self._most} bytes")
