"""Images in folders, or archives of them: one folder a class, with or without `train/`, `val/`, `test/` above.

Uses no TensorFlow.
"""

import os
import pathlib

import numpy as np
from absl import logging

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.data.examples import Examples
from jtln_tf.data.sources.archive import unpack_archive
from jtln_tf.data.sources.archive_reader import ARCHIVE_SUFFIXES
from jtln_tf.data.sources.class_table import level_columns, read_class_table
from jtln_tf.data.sources.image_tree import (
    IMAGE_SUFFIXES,
    find_class_folders,
    find_images,
    find_strays,
    subfolders,
)
from jtln_tf.data.sources.listing import SPLIT_NAMES, Listing, require_known_class, select_classes

_CLASS_TABLE = "classes.csv"


def list_folder(spec, data_root="", cache_dir=""):
    """Lists a `folder:` domain; opens no image.

    Classes are numbered in the order of their sorted names. A `classes.csv` in the folder (first column: class) gives
    columns to choose classes by: `folder:grocery?family=Fruit`; so do the folders above a class, where `class_depth` is
    more than 1.

    Args:
        spec: `DomainSpec`; a relative `name` is looked up in `data_root`. It may be that of an archive.
        data_root: Folder of relative paths; empty is the current one.
        cache_dir: Folder that archives are unpacked in.

    Returns:
        `Listing` of file paths, its classes already selected.

    Raises:
        MissingInputError: If the folder does not exist.
        InputError: If it holds no images, a class is empty, a class of another split is not in `train`, or an archive
            is refused.
    """
    place = pathlib.Path(data_root) / spec.name
    is_archive = place.is_file() and place.name.lower().endswith(ARCHIVE_SUFFIXES)
    top = unpack_archive(place, cache_dir) if is_archive else place
    if not top.is_dir():
        raise MissingInputError(
            f"`folder:` must name an existing folder, or an archive ({', '.join(ARCHIVE_SUFFIXES)}). "
            f"Received: {str(place)!r}."
        )
    root = _unwrap(top, spec.class_depth) if is_archive else top
    split_folders, others = _find_splits(root)
    folders = {name: find_class_folders(folder, spec.class_depth) for name, folder in split_folders.items()}
    class_names = tuple(folders["train"])
    if not class_names:
        levels = f", {spec.class_depth} levels down" if spec.class_depth > 1 else ""
        raise InputError(
            f"A folder must hold one folder of images for each class{levels}. Received: {str(place)!r} with none."
        )
    labels = {name: label for label, name in enumerate(class_names)}
    splits = {}
    for name, class_folders in folders.items():
        for class_name, path in class_folders.items():
            require_known_class(class_name, labels, repr(path))
        splits[name] = _list_split(split_folders[name], class_folders, labels, others)
    if not len(splits["train"]):
        suffixes = ", ".join(IMAGE_SUFFIXES)
        raise InputError(f"A folder must hold images ({suffixes}). Received: {str(place)!r} with none.")
    _warn_of_what_is_left_out(split_folders.values(), spec.class_depth, others)
    listing = Listing(class_names, splits, class_table=_find_class_table(class_names, root, top))
    listing = select_classes(listing, spec)
    counts = np.bincount(listing.splits["train"].labels, minlength=len(listing.class_names))
    if (counts == 0).any():
        empty = folders["train"][listing.class_names[int(np.argmin(counts))]]
        raise InputError(f"A class must have training images. Received: {empty!r} with none.")
    return listing


def _unwrap(root, class_depth):
    """Returns the folder that holds all of an archive, where there is one."""
    while True:
        folders = subfolders(root)
        if len(folders) != 1 or folders[0].name.lower() in SPLIT_NAMES:
            return root
        # A single class is no wrapping.
        if not find_class_folders(folders[0].path, class_depth):
            return root
        root = pathlib.Path(folders[0].path)


def _find_splits(root):
    """Returns the folder of each split, and those beside them, which are left out."""
    split_folders, beside = {}, []
    for entry in subfolders(root):
        split_name = SPLIT_NAMES.get(entry.name.lower())
        if split_name is None:
            beside.append(entry.path)
        elif split_name in split_folders:
            raise InputError(
                f"A folder must have each split once. Received: {entry.path!r} and {split_folders[split_name]!r}."
            )
        else:
            split_folders[split_name] = entry.path
    # A folder with a class that happens to be called "test" is not a folder of splits; nor is one of vehicles, with
    # images of a train.
    if "train" not in split_folders or (beside and not subfolders(split_folders["train"])):
        return {"train": str(root)}, []
    return split_folders, beside


def _find_class_table(class_names, *folders):
    """Returns what the folders above the classes tell of them, and the first `classes.csv` there is."""
    table = level_columns(class_names)
    paths = [folder / _CLASS_TABLE for folder in folders]
    for path in [path for path in paths if path.is_file()][:1]:
        for name, row in read_class_table(path).items():
            table[name] = table.get(name, {}) | row
    return table


def _list_split(folder, class_folders, labels_of_names, others):
    """Lists the images of a split; adds to `others` the files that are none."""
    paths, labels = [], []
    for name, class_folder in class_folders.items():
        images, no_images = find_images(class_folder)
        paths += images
        others += no_images
        labels += [labels_of_names[name]] * len(images)
    for path in paths:
        _check_file_name(path)
    # From the split's folder on, so that a message tells the split too.
    start = len(folder) - len(os.path.basename(folder))
    names = [path[start:] for path in paths]
    return Examples(np.array(paths, object), np.array(labels, np.int32), np.array(names, object))


def _check_file_name(path):
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"A file name must be UTF-8. Received: {path!r}.") from error


def _warn_of_what_is_left_out(folders, class_depth, others):
    if others:
        logging.warning("left out %d files and folders that are no images, %r among them.", len(others), others[0])
    strays = [path for folder in folders for path in find_strays(folder, class_depth)]
    if strays:
        logging.warning("left out %d images that are in no class's folder, %r among them.", len(strays), strays[0])
