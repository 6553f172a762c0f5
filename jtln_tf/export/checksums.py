"""Checksums of the files of an export, as `sha256sum -c` reads them. Imports no TensorFlow."""

import hashlib
import os
import pathlib

from jtln_tf.export.layout import CHECKSUM_FILE, VERSION
from jtln_tf.files import MARK_FILE, write_whole


def write_checksums(folder: pathlib.Path) -> None:
    """Writes the SHA-256 of every file of an export."""
    lines = [f"{digest}  {name}\n" for name, digest in _find_digests(folder).items()]
    write_whole(folder / CHECKSUM_FILE, "".join(lines))


def find_damaged_file(folder: str | os.PathLike) -> str:
    """Returns the name of a file of the SavedModel of an export that is not as it was written, or an empty text.

    If there is no list of checksums, its name is returned. A model card may have been edited: it is not looked at.
    """
    folder = pathlib.Path(folder)
    if not os.path.isfile(folder / CHECKSUM_FILE):
        return CHECKSUM_FILE
    lines = (folder / CHECKSUM_FILE).read_text("utf-8", "replace").splitlines()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = _find_digests(folder)
    own = [name for name in sorted({*found, *listed}) if name.startswith(f"{VERSION}/")]
    return next((name for name in own if found.get(name) != listed.get(name)), "" if own else VERSION)


def _find_digests(folder):
    """Returns the SHA-256 of each file but the marks and the list itself, by name."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (CHECKSUM_FILE, MARK_FILE):
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
