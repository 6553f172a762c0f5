"""Images in folders: one folder a class, with or without `train/`, `val/`, `test/` above. Imports no TensorFlow."""

import csv
import os
import pathlib

import numpy as np
from absl import logging

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.domains.examples import Examples
from jtln_tf.domains.listing import Listing, select_classes

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
# Folder names people use for the splits.
_SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "validation": "validation",
    "valid": "validation",
    "test": "test",
}


def list_folder(spec, data_root="", cache_dir=""):
    """Lists a `folder:` domain; opens no image.

    Classes are numbered in the order of their sorted names. A `classes.csv` in the folder (first column: class) gives
    columns to choose classes by: `folder:grocery?family=Fruit`.

    Args:
        spec: `DomainSpec`; a relative `name` is looked up in `data_root`.
        data_root: Folder of relative paths; empty is the current one.
        cache_dir: Unused.

    Returns:
        `Listing` of file paths, its classes already selected.

    Raises:
        MissingInputError: If the folder does not exist.
        InputError: If it holds no images, a class is empty, or a class of another split is not in `train`.
    """
    del cache_dir
    root = pathlib.Path(data_root) / spec.name
    if not root.is_dir():
        raise MissingInputError(f"`folder:` must name an existing folder. Received: {str(root)!r}.")
    split_folders = {}
    for child in sorted(_subfolders(root)):
        split_name = _SPLIT_FOLDERS.get(child.name.lower())
        if split_name in split_folders:
            raise InputError(f"A folder must have each split once. Received: {child} and {split_folders[split_name]}.")
        if split_name:
            split_folders[split_name] = child
    # A folder with a class that happens to be called "test" is not a folder of splits.
    if "train" not in split_folders:
        split_folders = {"train": root}
    class_names = tuple(sorted(child.name for child in _subfolders(split_folders["train"])))
    if not class_names:
        raise InputError(f"A folder must hold one folder of images for each class. Received: {str(root)!r} with none.")
    splits = {name: _list_split(folder, class_names) for name, folder in split_folders.items()}
    if not len(splits["train"]):
        raise InputError(f"A folder must hold images ({', '.join(IMAGE_SUFFIXES)}). Received: {str(root)!r} with none.")
    _warn_of_other_files(split_folders)
    table = read_class_table(root / "classes.csv") if (root / "classes.csv").is_file() else {}
    listing = select_classes(Listing(class_names, splits, class_table=table), spec)
    counts = np.bincount(listing.splits["train"].labels, minlength=len(listing.class_names))
    if (counts == 0).any():
        empty = listing.class_names[int(np.argmin(counts))]
        raise InputError(
            f"A class must have training images. Received: {str(split_folders['train'] / empty)!r} with none."
        )
    return listing


def _subfolders(folder):
    return [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]


def _list_split(folder, class_names):
    paths, labels, names = [], [], []
    for class_folder in sorted(_subfolders(folder)):
        if class_folder.name not in class_names:
            raise InputError(f"A class must be in the train split too. Received: {str(class_folder)!r}.")
        label = class_names.index(class_folder.name)
        for entry in sorted(os.scandir(class_folder), key=lambda entry: entry.name):
            is_image = entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.name.startswith(".")
            if is_image and entry.is_file():
                _check_file_name(entry.path)
                paths.append(entry.path)
                labels.append(label)
                names.append(os.path.relpath(entry.path, folder.parent))
    return Examples(np.array(paths, object), np.array(labels, np.int32), np.array(names, object))


def _check_file_name(path):
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"A file name must be UTF-8. Received: {path!r}.") from error


def _warn_of_other_files(split_folders):
    others = [
        entry.path
        for folder in split_folders.values()
        for class_folder in _subfolders(folder)
        for entry in os.scandir(class_folder)
        if not entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.name.startswith(".")
    ]
    if others:
        logging.warning("left out %d files and folders that are no images, %s among them.", len(others), others[0])


def read_class_table(path):
    """Reads a CSV of classes: the class in the first column, what is known of it in the others.

    Returns:
        Dict from class names to dicts from column names to texts; the first column is among them.

    Raises:
        InputError: If the file is no UTF-8 table.
    """
    path = pathlib.Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            key = (reader.fieldnames or [""])[0]
            # Fields beyond the header have no column, and a short row has no text.
            return {row[key]: {column: row[column] or "" for column in reader.fieldnames} for row in reader}
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"A classes.csv must be a UTF-8 table. Received: {str(path)!r} ({error}).") from error
