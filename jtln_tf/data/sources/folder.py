"""Images in a folder, or in an archive of one: a folder for each class, `train/`, `val/` and `test/` above or not."""

import os
import pathlib

import numpy as np
from absl import logging

from jtln_tf.config import DomainSpec, InputError, MissingInputError, normalize_name
from jtln_tf.data.examples import Examples
from jtln_tf.data.sources.archive import unpack_archive
from jtln_tf.data.sources.archive_reader import ARCHIVE_SUFFIXES
from jtln_tf.data.sources.class_table import find_class_table, level_columns, read_class_table
from jtln_tf.data.sources.image_tree import IMAGE_SUFFIXES, find_class_folders, find_images, subfolders
from jtln_tf.data.sources.listing import Listing, find_split_name, require_known_class, select_classes


def list_folder(spec: DomainSpec, data_root: str = "", cache_dir: str = "") -> Listing:
    """Lists a `folder:` domain, a folder or an archive, which is unpacked in `cache_dir`; opens no image.

    Classes are numbered in the order of their sorted names. A `classes.csv` in the folder (first column: class) gives
    columns to choose classes by: `folder:grocery?family=Fruit`. If `class_depth` is more than 1, so do the folders
    above a class.
    """
    place = pathlib.Path(data_root) / spec.name
    top, root = _find_root(place, spec.class_depth, cache_dir)
    split_folders, others = _find_splits(root)
    folders, strays = {}, []
    for name, folder in split_folders.items():
        folders[name], found = find_class_folders(folder, spec.class_depth)
        strays += found
    class_names = tuple(folders["train"])
    if not class_names:
        rule = "A folder must hold one folder of images for each class"
        rule += f", {spec.class_depth} levels down" if spec.class_depth > 1 else ""
        raise InputError(f"{rule}. Received: {str(place)!r} with none.")
    labels = {name: label for label, name in enumerate(class_names)}
    splits = {}
    for name, class_folders in folders.items():
        for class_name, path in class_folders.items():
            require_known_class(class_name, labels, repr(path))
        splits[name] = _list_split(split_folders[name], class_folders, labels, others)
    if not len(splits["train"]):
        suffixes = ", ".join(IMAGE_SUFFIXES)
        raise InputError(f"A folder must hold images ({suffixes}). Received: {str(place)!r} with none.")
    if others:
        logging.warning("left out %d files and folders that are not images, for example %r.", len(others), others[0])
    if strays:
        logging.warning("left out %d images outside the class folders, for example %r.", len(strays), strays[0])
    table = _find_class_table(class_names, root, top)
    return select_classes(Listing(class_names, splits, class_table=table), spec)


def _find_root(place, class_depth, cache_dir):
    """Returns a domain's folder, and the one in it with the classes or splits: another one only in an archive."""
    if place.is_file() and place.name.lower().endswith(ARCHIVE_SUFFIXES):
        top = root = unpack_archive(place, cache_dir)
        # A folder around everything else is taken off.
        while len(folders := subfolders(root)) == 1 and not find_split_name(folders[0].name):
            if not find_class_folders(folders[0].path, class_depth)[0]:
                break
            root = pathlib.Path(folders[0].path)
        return top, root
    if not place.is_dir():
        rule = f"`folder:` must name an existing folder, or an archive ({', '.join(ARCHIVE_SUFFIXES)})"
        raise MissingInputError(f"{rule}. Received: {str(place)!r}.")
    return place, place


def _find_splits(root):
    """Returns the folder of each split by its name, and the other folders beside them, which are left out."""
    found, beside = {}, []
    for entry in subfolders(root):
        split_name = find_split_name(entry.name)
        if split_name is None:
            beside.append(entry.path)
        else:
            found.setdefault(split_name, []).append(entry.path)
    # `test` may be a class, if there is no `train`; so may `train`, a vehicle, if no folder of classes is in it.
    if "train" not in found or (beside and not any(map(subfolders, found["train"]))):
        return {"train": str(root)}, []
    for paths in found.values():
        if len(paths) > 1:
            received = f"{paths[1]!r} and {paths[0]!r}. Hint: name the folders train, val and test"
            raise InputError(f"A folder must have each split once. Received: {received}.")
    return {name: paths[0] for name, paths in found.items()}, beside


def _find_class_table(class_names, *folders):
    """Returns the levels above each class, joined with the first `classes.csv` found in the folders."""
    table = level_columns(class_names)
    path = next(filter(None, map(find_class_table, folders)), None)
    rows = read_class_table(path, class_names) if path else {}
    if rows and rows.keys().isdisjoint(class_names):
        logging.warning("%r names no class of the folder, but for example %r.", str(path), next(iter(rows)))
    for name, row in rows.items():
        table[name] = table.get(name, {}) | row
    return table


def _list_split(folder, class_folders, labels_by_name, others):
    """Lists the images of a split; adds the paths of all other files to `others`."""
    paths, labels = [], []
    for name, class_folder in class_folders.items():
        images, other_files = find_images(class_folder)
        paths += images
        others += other_files
        labels += [labels_by_name[name]] * len(images)
    try:
        for path in paths:
            path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"A file name must be UTF-8. Received: {path!r}. Hint: rename it.") from error
    # A name begins with the split's folder, so that messages tell the split too.
    start = len(folder) - len(os.path.basename(folder))
    names = [normalize_name(path[start:]) for path in paths]
    return Examples(np.array(paths, object), np.array(labels, np.int32), np.array(names, object))
