"""Image files that a person names: paths, folders, patterns, lists, and paths on stdin. Their content, in batches.

What needs no TensorFlow is checked first.
"""

import glob
import os
import pathlib
import typing
from collections.abc import Iterable, Iterator

from absl import logging

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.files import first_line
from jtln_tf.tables import TABLE_SUFFIXES, open_text

STDIN = "-"
_TABLES = (*TABLE_SUFFIXES, ".jsonl")
# A batch holds no more images, and no more bytes but for its last image.
_MOST_IMAGES, _MOST_BATCH_BYTES = 32, 2**26
# More than an uncompressed image of as many pixels as are read takes, at 64 bits a pixel.
_MOST_FILE_BYTES = 2**30 + 2**20
_CHUNK_BYTES, _LONGEST_PATH = 2**16, 2**20


class ImageFile(typing.NamedTuple):
    """An image file.

    Attributes:
        path: Its path.
        content: Its bytes; of a TIFF or BMP those of a PNG with the same pixels. Empty if it cannot be read.
        reason: Why it cannot be read; empty for a file that can.
    """

    path: str
    content: bytes
    reason: str = ""


def check_arguments(arguments: Iterable[str]) -> None:
    """Raises `InputError` if an argument is no file, folder, pattern of existing names or `-`; lists no folder."""
    for argument in arguments:
        if argument == STDIN:
            continue
        if not os.path.lexists(argument):
            if not glob.has_magic(argument):
                raise MissingInputError(f"`images` must name existing files or folders. Received: {argument!r}.")
            if next(glob.iglob(argument, recursive=True), None) is None:
                raise MissingInputError(f"`images` must match existing files. Received: {argument!r}.")
        # A pipe or a device would be waited for.
        elif not os.path.isfile(argument) and not os.path.isdir(argument):
            raise InputError(f"`images` must be plain files or folders. Received: {argument!r}.")


def expand_arguments(arguments: Iterable[str], stdin: typing.BinaryIO) -> Iterator[str]:
    """Yields the paths that arguments name, in their order; takes what `check_arguments` passed.

    A pattern counts if no file has that very name. `-` stands for the paths on `stdin`.
    """
    for argument in arguments:
        if argument == STDIN:
            yield from read_stream(stdin)
        elif os.path.lexists(argument):
            yield argument
        else:
            yield from sorted(glob.glob(argument, recursive=True))


def search_folders(paths: Iterable[str]) -> Iterator[str]:
    """Yields paths; of a folder those of the files below it, at any depth, that have an image's name.

    A folder without any is yielded itself. Other files are told and left out.
    """
    from jtln_tf.data import FOREIGN_SUFFIXES
    from jtln_tf.data.sources.image_tree import find_images

    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        images, others = find_images(path)
        # Photographs in formats that are not read are named for what they are.
        foreign = [one for one in others if one.lower().endswith(FOREIGN_SUFFIXES)]
        left_out = sorted({*others} - {*foreign})
        if left_out:
            logging.warning("left out %d files that are not images, for example %r.", len(left_out), left_out[0])
        yield from sorted([*images, *foreign]) if foreign else images or [path]


def check_list(path: str) -> None:
    """Raises `InputError` if a list of paths is no existing plain text file."""
    with open_text(path, "`list`"):
        pass


def read_list(path: str) -> Iterator[str]:
    """Yields the paths in a list: a text with a path in each line, or a `.csv`, `.tsv` or `.jsonl` with a column path.

    Columns are those of `list:` domains. Paths are relative to the folder of the list. A row without one is empty.
    """
    from jtln_tf.data.sources.file_list import find_on_disk, read_paths

    folder = pathlib.Path(path).parent
    for text in read_paths(path) if path.lower().endswith(_TABLES) else _read_lines(path):
        root = os.path.sep if os.path.isabs(text) else folder
        found = find_on_disk(root, text.lstrip(os.path.sep)) if text else ""
        # Lists made on Windows have backslashes.
        yield found if "\\" not in text or os.path.lexists(found) else find_on_disk(root, text.replace("\\", "/"))


def _read_lines(path):
    with open_text(path, "`list`") as file:
        for line in file:
            if text := line.rstrip("\r\n"):
                yield text


def read_stream(stream: typing.BinaryIO) -> Iterator[str]:
    """Yields the paths in a stream as they come: one a line, or with a zero byte behind each if it has such bytes."""
    buffer, end = b"", None
    while chunk := stream.read1(_CHUNK_BYTES):
        buffer += chunk
        if end is None and (b"\0" in buffer or b"\n" in buffer):
            end = b"\0" if b"\0" in buffer else b"\n"
        *paths, buffer = buffer.split(end) if end else [buffer]
        if len(buffer) > _LONGEST_PATH:
            received = f"{len(buffer)} bytes without an end"
            raise InputError(f"`images` must be paths on stdin, one a line. Received: {received}.")
        yield from _decode_paths(paths, end)
    yield from _decode_paths([buffer], end)


def _decode_paths(paths, end):
    stripped = (path if end == b"\0" else path.rstrip(b"\r\n") for path in paths)
    return map(os.fsdecode, filter(None, stripped))


def read_batches(paths: Iterable[str]) -> Iterator[list[ImageFile]]:
    """Reads files, and those in folders, in order, in batches that fit the memory.

    A file that cannot be read gets its reason.
    """
    batch, num_bytes = [], 0
    for path in search_folders(paths):
        batch.append(read_image_file(path))
        num_bytes += len(batch[-1].content)
        if len(batch) == _MOST_IMAGES or num_bytes >= _MOST_BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


def read_image_file(path: str) -> ImageFile:
    """Reads a file for an exported network, to which TIFF and BMP are handed over as PNG."""
    from jtln_tf.data import to_png

    try:
        # A pipe or a device would be waited for. A path with a zero byte raises ValueError.
        if os.path.lexists(path) and not os.path.isfile(path):
            return ImageFile(path, b"", "no images are in it" if os.path.isdir(path) else "it is no plain file")
        if os.stat(path).st_size > _MOST_FILE_BYTES:
            return ImageFile(path, b"", "it has more than 1 GiB")
        content = to_png(pathlib.Path(path).read_bytes())
    except (OSError, ValueError) as error:
        return ImageFile(path, b"", getattr(error, "strerror", None) or first_line(error))
    return ImageFile(path, content, "" if content else "it is empty")
