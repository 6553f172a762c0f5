"""Entries of a zip or tar archive; nothing is checked but what reading may cost, and whether the archive is whole."""

import bz2
import functools
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

_DECOMPRESS = {
    ".tar": lambda file: file,
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tar.xz": lzma.open,
}
ARCHIVE_SUFFIXES = (".zip", *_DECOMPRESS)
# Most bytes read at once: tarfile keeps a whole header in memory.
_READ_BYTES = 2**16
_ZIP_IS_ENCRYPTED, _ZIP_IS_UTF8, _ZIP_UNICODE_PATH = 0x1, 0x800, 0x7075


class Entry(NamedTuple):
    """What an archive says about one entry, unchecked.

    Attributes:
        name: Its path in the archive.
        kind: `file`, `folder`, or another kind.
        num_bytes: Its size when unpacked.
        extract: Called with a folder, unpacks the entry there; only until the next entry is read.
    """

    name: str
    kind: str
    num_bytes: int
    extract: Callable[[str], object]


def read_entries(file: BinaryIO, name: str, most_bytes: int) -> Iterator[Entry]:
    """Yields every entry of an archive, in its order; a tar is read from beginning to end, once.

    The name of the file ends in one of `ARCHIVE_SUFFIXES`. Decompressing a tar may give `most_bytes` in all. A damaged
    archive raises exceptions of any kind.
    """
    if name.lower().endswith(".zip"):
        return _read_zip(file)
    decompress = next(each for suffix, each in _DECOMPRESS.items() if name.lower().endswith(suffix))
    return _read_tar(_ForwardStream(decompress(file), most_bytes))


def _read_zip(file):
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            kind = "folder" if info.is_dir() or mode == stat.S_IFDIR else "file"
            if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "link or device"
            if info.flag_bits & _ZIP_IS_ENCRYPTED:
                kind = "encrypted"
            # `filename` hides what follows a zero byte. It is where the entry is unpacked.
            info.filename = _decode_name(info)
            yield Entry(info.filename, kind, info.file_size, functools.partial(archive.extract, info))


def _decode_name(info):
    """Returns the name of a zip's entry; bytes that are no UTF-8, in any of dozens of code pages, become surrogates."""
    if info.flag_bits & _ZIP_IS_UTF8:
        return info.orig_filename
    # zipfile takes an unmarked name for code page 437. macOS writes UTF-8 without the mark.
    name, extra = info.orig_filename.encode("cp437"), info.extra
    while len(extra) >= 4:
        tag, size = struct.unpack_from("<HH", extra)
        data, extra = extra[4 : 4 + size], extra[4 + size :]
        # Info-ZIP writes the name in UTF-8 beside it, with the checksum of the other one.
        if tag == _ZIP_UNICODE_PATH and data[1:5] == zlib.crc32(name).to_bytes(4, "little"):
            name = data[5:]
            break
    return name.decode("utf-8", "surrogateescape")


def _read_tar(stream):
    archive = tarfile.TarFile(fileobj=stream, encoding="utf-8")
    while (info := archive.next()) is not None:
        # tarfile would keep every entry in memory.
        archive.members.clear()
        if info.size < 0:
            raise tarfile.ReadError("an entry has a size below zero")
        kind = "folder" if info.isdir() else "file" if info.isreg() else "link or device"
        extract = functools.partial(archive.extract, info, set_attrs=False, filter="data")
        yield Entry(info.name, "sparse" if info.issparse() else kind, info.size, extract)
    # tarfile takes a damaged header for the end.
    if stream.last != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it breaks off")
    # The checksum of a compressed file stands at its very end. A block of zeros in the middle is damage.
    while block := stream.read(_READ_BYTES):
        if block.strip(b"\0"):
            raise tarfile.ReadError("there is more after its end")


class _ForwardStream:
    """A file for tarfile that never goes back, limits what is read at once and in all, and keeps the last bytes."""

    def __init__(self, file, most_bytes):
        self._file, self._most_bytes, self.last = file, most_bytes, b""

    def tell(self):
        return self._file.tell()

    def seek(self, position):
        if position < self.tell():
            raise tarfile.ReadError("it leads back")
        self._check(position)
        return self._file.seek(position)

    def read(self, size):
        if not 0 <= size <= _READ_BYTES:
            raise tarfile.ReadError(f"a header has {size} bytes")
        self._check(self.tell() + size)
        self.last = self._file.read(size)
        return self.last

    def _check(self, position):
        if position > self._most_bytes:
            raise tarfile.ReadError(f"it unpacks to more than {self._most_bytes} bytes")
