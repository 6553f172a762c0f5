"""What is in a cache folder: activations of trunks, decoded images, unpacked archives. Uses no TensorFlow."""

import contextlib
import fnmatch
import os
import pathlib
import shutil

from jtln_tf.features.store import SHARD_NAMES, read_shard, store_folder, trunk_folders
from jtln_tf.files import MARK_FILE, holds_mark, is_left_over, mark_folder, marked_version

KIND, VERSION = "cache", 1
_DIGEST = "[0-9a-f]" * 24
# Names of what other rooms keep directly in the folder, also of locks and of what a kill leaves.
_OTHERS = {
    "decoded images": (f"pixels_{_DIGEST}.npy*", f"pixels_{_DIGEST}.lock", f"broken_{_DIGEST}.*"),
    "unpacked archives": (f"archive_{_DIGEST}", f"archive_{_DIGEST}.lock", f"archive_{_DIGEST}.unfinished"),
}


def mark_cache(folder: str | os.PathLike) -> None:
    """Marks a cache folder, if there is one without any mark, so that `clear_cache` may empty it."""
    if os.path.isdir(folder) and not holds_mark(folder):
        # It may be read-only.
        with contextlib.suppress(OSError):
            mark_folder(folder, KIND, VERSION)


def describe_cache(folder: str | os.PathLike) -> dict[str, list[dict]]:
    """Returns what a cache folder holds, as JSON values.

    `trunks` lists the fingerprint, images (views of them), bytes and last use, in seconds since 1970, of each trunk;
    `others` lists kinds of other files.
    """
    trunks, others = [], []
    for one in trunk_folders(store_folder(folder)):
        shards = [shard for path in one.glob(SHARD_NAMES) if (shard := read_shard(path))]
        trunks.append({"trunk": one.name, "images": sum(len(shard.entries) for shard in shards), **_measure([one])})
    for kind, paths in _find_others(folder).items():
        if paths:
            others.append({"kind": kind, **_measure(paths)})
    return {"trunks": trunks, "others": others}


def clear_cache(folder: str | os.PathLike) -> int:
    """Removes what this program keeps in a cache folder, and the folders that are empty then; returns its bytes.

    Only folders that carry the program's mark are touched, and in them only files of its own names.
    """
    folder, removed = pathlib.Path(folder), 0
    activations = store_folder(folder)
    for trunk in trunk_folders(activations):
        own = [one for one in trunk.iterdir() if fnmatch.fnmatchcase(one.name, SHARD_NAMES)]
        own += [one for one in trunk.iterdir() if is_left_over(one, (SHARD_NAMES,))]
        removed += _remove(own)
        _remove_empty(trunk)
    if marked_version(folder, KIND) is not None:
        removed += sum(map(_remove, _find_others(folder).values()))
        with contextlib.suppress(OSError):
            activations.rmdir()
        _remove_empty(folder)
    return removed


def _find_others(folder):
    folder = pathlib.Path(folder)
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return {
        kind: [one for one in entries if any(fnmatch.fnmatchcase(one.name, name) for name in names)]
        for kind, names in _OTHERS.items()
    }


def _measure(paths):
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    statuses = [file.stat() for file in files]
    last_use = max((status.st_mtime for status in statuses), default=0.0)
    return {"files": len(files), "bytes": sum(status.st_size for status in statuses), "last_use": last_use}


def _remove(paths):
    size = _measure(paths)["bytes"]
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return size


def _remove_empty(folder):
    """Removes a marked folder that holds nothing else."""
    if [one.name for one in folder.iterdir()] == [MARK_FILE]:
        (folder / MARK_FILE).unlink()
        folder.rmdir()
