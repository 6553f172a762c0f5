"""Image files below a folder, and the folders that name their classes. Uses no TensorFlow.

Links are followed. What is no one's data (hidden files, what systems leave in folders) is not there at all.
"""

import os
import stat
import unicodedata

from jtln_tf.config import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
CLASS_TABLE_FILE = "classes.csv"
# Left by macOS in archives, by Windows in folders with pictures, by Synology's disks.
_JUNK = {"__macosx", "thumbs.db", "desktop.ini", "@eadir"}


def is_hidden(name):
    """Whether a file or folder of that name is none of the user's data."""
    return name.startswith(".") or name.lower() in _JUNK


def is_image_name(name):
    """Whether a file of that name is taken for an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def normalize(name):
    """Returns a name in the form of Unicode in which systems agree: macOS splits an accent from its letter."""
    return unicodedata.normalize("NFC", name)


def subfolders(folder):
    """Returns the visible folders in a folder, `os.DirEntry`s sorted by name; not a link to one that it is in."""
    folders = [entry for entry in _scan(folder) if _is_folder(entry)]
    if any(entry.is_symlink() for entry in folders):
        real = os.path.realpath(folder)
        folders = [one for one in folders if not (one.is_symlink() and _holds(os.path.realpath(one.path), real))]
    return folders


def find_class_folders(folder, depth):
    """Finds the folders that are classes.

    Args:
        folder: Folder of a split.
        depth: Folders from there to a class; their names, joined by `/`, are that of the class.

    Returns:
        Dict from class name to the path of its folder, sorted by name.

    Raises:
        InputError: If two folders have names that differ in their form of Unicode alone.
    """
    level = [("", os.fspath(folder))]
    for _ in range(depth):
        level = [(f"{name}/{entry.name}", entry.path) for name, path in level for entry in subfolders(path)]
    found = {}
    for name, path in sorted(level):
        name = normalize(name[1:])
        if name in found:
            raise InputError(
                f"A class must have one folder. Received: {found[name]!r} and {path!r}, which are written in two "
                "forms of Unicode."
            )
        found[name] = path
    return dict(sorted(found.items()))


def find_images(folder):
    """Finds the image files below a folder, at any depth.

    A folder that several links lead to is looked into once, so that a link back ends. A link to nothing is an image
    that cannot be read. No file is asked for more than its folder tells: 200,000 take about a second.

    Args:
        folder: Path of the folder.

    Returns:
        Paths of the images, sorted by name, and those of other files.
    """
    start = os.path.realpath(folder)
    seen, waiting = {start, *_folders_above(start)}, [(os.fspath(folder), start)]
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
    # Other systems tell the same names in another order, and in another form.
    return sorted(images, key=lambda path: (normalize(path), path)), others


def find_strays(folder, depth):
    """Returns the paths of images above the class folders: they belong to no class."""
    level, strays = [os.fspath(folder)], []
    for _ in range(depth):
        strays += [one.path for path in level for one in _scan(path) if is_image_name(one.name) and not _is_folder(one)]
        level = [entry.path for path in level for entry in subfolders(path)]
    return strays


def _scan(folder):
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)


def _is_folder(entry):
    # A link to itself makes `entry.is_dir` raise.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir(follow_symlinks=False)


def _is_file(entry):
    if not entry.is_symlink():
        return entry.is_file(follow_symlinks=False)
    try:
        return stat.S_ISREG(os.stat(entry.path).st_mode)
    except OSError:
        return True


def _folders_above(path):
    while path != os.path.dirname(path):
        path = os.path.dirname(path)
        yield path


def _holds(folder, path):
    return folder == path or folder in _folders_above(path)
