"""Image files below a folder, and the folders that name their classes.

Links are followed. Hidden files, and files that systems leave in folders, are passed over.
"""

import os
import pathlib
import stat

from jtln_tf.config import InputError, normalize_name

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
# Left by macOS in archives, by Windows in folders of pictures, by Synology's disks.
_JUNK = {"__macosx", "thumbs.db", "desktop.ini", "@eadir"}


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder of that name is not the user's data."""
    return name.startswith(".") or name.lower() in _JUNK


def is_image_name(name: str) -> bool:
    """Returns whether a file of that name is taken for an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def subfolders(folder: str | os.PathLike) -> list[os.DirEntry]:
    """Returns the visible folders in a folder, sorted by name, without links to the folder or to one above it."""
    folders = [entry for entry in _scan(folder) if _is_folder(entry)]
    if any(entry.is_symlink() for entry in folders):
        above = _with_parents(os.path.realpath(folder))
        folders = [one for one in folders if not one.is_symlink() or os.path.realpath(one.path) not in above]
    return folders


def find_class_folders(folder: str | os.PathLike, depth: int) -> tuple[dict[str, str], list[str]]:
    """Returns the path of each class's folder by class name, sorted by name, and the images above these folders.

    A class is `depth` folders below the folder of its split; their names, joined by `/`, are its name. Raises
    `InputError` if the names of two folders differ only in their form of Unicode.
    """
    level, strays = [("", os.fspath(folder))], []
    for _ in range(depth):
        entries = [entry for _, path in level for entry in _scan(path)]
        strays += [entry.path for entry in entries if is_image_name(entry.name) and not _is_folder(entry)]
        level = [(f"{name}/{entry.name}", entry.path) for name, path in level for entry in subfolders(path)]
    found = {}
    for name, path in sorted(level):
        name = normalize_name(name[1:])
        if name in found:
            received = f"{found[name]!r} and {path!r}, which are written in two forms of Unicode"
            raise InputError(f"A class must have one folder. Received: {received}.")
        found[name] = path
    return dict(sorted(found.items())), strays


def find_images(folder: str | os.PathLike) -> tuple[list[str], list[str]]:
    """Returns the paths of the images below a folder, at any depth, sorted by name, and the paths of all other files.

    A folder that several links lead to is searched once, so that circles of links end. A broken link with an image's
    name counts as an image; reading it fails later. No file is opened or asked for its status: 200,000 take a second.
    """
    start = os.path.realpath(folder)
    seen, waiting = _with_parents(start), [(os.fspath(folder), start)]
    images, others = [], []
    while waiting:
        path, real = waiting.pop()
        for entry in _scan(path):
            if _is_folder(entry):
                below = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real, entry.name)
                if below not in seen:
                    seen.add(below)
                    waiting.append((entry.path, below))
            elif is_image_name(entry.name) and _is_file(entry):
                images.append(entry.path)
            else:
                others.append(entry.path)
    # Systems list the same names in different orders and forms.
    return sorted(images, key=lambda path: (normalize_name(path), path)), others


def _scan(folder):
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)


def _is_folder(entry):
    # `entry.is_dir` raises for a link to itself.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir(follow_symlinks=False)


def _is_file(entry):
    if not entry.is_symlink():
        return entry.is_file(follow_symlinks=False)
    try:
        return stat.S_ISREG(os.stat(entry.path).st_mode)
    except OSError:
        return True


def _with_parents(path):
    return {path, *map(str, pathlib.Path(path).parents)}
