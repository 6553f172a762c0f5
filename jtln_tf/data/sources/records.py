"""Image files packed into a few large ones (ArrayRecord), from which any image is read at once.

DIR/domain.json                        class names, class table, the shards of each split with their sizes, and groups
DIR/labels_train.npy                   class index of each record
DIR/train-00000-of-00008.array_record  the image files, byte by byte
DIR/jtln_tf.json                       marks the folder as written by this program
"""

import contextlib
import hashlib
import json
import operator
import os
import pathlib
import re
import shutil
from collections.abc import Callable

import numpy as np

from jtln_tf.config import DomainSpec, InputError, MissingInputError
from jtln_tf.data.examples import Examples
from jtln_tf.data.reading.images import Records
from jtln_tf.data.reading.record_reader import RecordReader
from jtln_tf.data.sources.listing import Listing, select_classes
from jtln_tf.files import check_marked, first_line, lock, mark_folder, marked_version, write_json

_KIND = "records"
_INDEX_FILE = "domain.json"
_FORMAT = 2
# A group of one: a record is read without its neighbours.
_WRITER_OPTIONS = "group_size:1,uncompressed"
_SHARD_NAME = re.compile(r"[a-z]+-\d{5}-of-\d{5}\.array_record")
_OWN_NAME = re.compile(rf"{_SHARD_NAME.pattern}|labels_[a-z]+\.npy|{re.escape(_INDEX_FILE)}")


def list_records(spec: DomainSpec, data_root: str = "", cache_dir: str = "") -> Listing:
    """Lists a `records:` domain, a folder that `write_records` wrote; it reads no image."""
    del cache_dir
    folder = pathlib.Path(data_root) / spec.name
    if not (folder / _INDEX_FILE).is_file():
        raise MissingInputError(f"`records:` must name a folder with {_INDEX_FILE}. Received: {str(folder)!r}.")
    try:
        listing, paths = _read_index(folder)
    except InputError:
        raise
    # A file that is made to do harm can raise anything, a lack of memory for example.
    except Exception as error:
        received = f"{str(folder)!r} ({first_line(error)})"
        raise InputError(f"`records:` must name what prepare_data wrote. Received: {received}.") from error
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise InputError(f"A domain of records must have all its shards. Received: {missing[0]!r} is missing.")
    return select_classes(listing, spec)


def _read_index(folder):
    """Returns the `Listing` of a folder, checked, and the paths of its shards."""
    index = json.loads((folder / _INDEX_FILE).read_text("utf-8"))
    if index["format"] != _FORMAT:
        received = f"{index['format']!r} in {str(folder)!r}"
        raise InputError(f"Records must be of format {_FORMAT}. Received: {received}. Hint: pack them again.")
    class_names, table, fraction = index["class_names"], index["class_table"], index["test_fraction"]
    _check_classes(class_names, table)
    if not 0 <= fraction < 1:
        raise ValueError(f"test_fraction is {fraction!r}")
    paths, sizes, ends, groups = [], [], {}, {}
    for name, split in index["splits"].items():
        groups[name] = split.get("groups")
        for shard in split["shards"]:
            if not _SHARD_NAME.fullmatch(shard["file"]):
                raise ValueError(f"{shard['file']!r} is not the name of a shard")
            paths.append(str(folder / shard["file"]))
            sizes.append(operator.index(shard["records"]))
        ends[name] = sum(sizes)
    if "train" not in ends or min(sizes, default=0) < 0:
        raise ValueError("it has no train split, or a shard of fewer than 0 records")
    reader = RecordReader(paths, sizes, str(index["content"]))
    splits, first = {}, 0
    for name, end in ends.items():
        labels = _read_labels(folder, name, end - first, len(class_names))
        names = np.array([f"{folder.name}/{name}[{position}]" for position in range(len(labels))], object)
        records = Records(np.arange(first, end), reader)
        splits[name] = Examples(records, labels, names, _check_groups(groups[name], len(labels)))
        first = end
    return Listing(tuple(class_names), splits, default_test_fraction=fraction, class_table=table), paths


def _check_classes(class_names, table):
    texts = [*class_names, *table, *(text for row in table.values() for item in row.items() for text in item)]
    if not isinstance(class_names, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError("classes and their columns must be texts")
    if len(set(class_names)) != len(class_names):
        raise ValueError("a class is there twice")


def _check_groups(groups, count):
    """Returns the names of the groups of a split as an array, or None if it has none."""
    if groups is None:
        return None
    if not isinstance(groups, list) or len(groups) != count or not all(isinstance(name, str) for name in groups):
        raise ValueError("the groups do not fit")
    return np.array(groups, object)


def _read_labels(folder, name, count, num_classes):
    if name not in ("train", "validation", "test"):
        raise ValueError(f"{name!r} is not a split")
    path = folder / f"labels_{name}.npy"
    # A pipe would be waited for.
    if not path.is_file():
        raise ValueError(f"{path.name} is missing")
    # Mapped: no more is read than the file has, whatever its header says.
    labels = np.load(path, mmap_mode="r", allow_pickle=False)
    does_fit = labels.shape == (count,) and labels.dtype.kind in "iu"
    if not does_fit or (count and not 0 <= labels.min() <= labels.max() < num_classes):
        raise ValueError(f"labels_{name}.npy does not fit")
    return labels.astype(np.int32)


def write_records(
    listing: Listing, output: str, *, images_per_shard: int, overwrite: bool = False, progress: Callable | None = None
) -> None:
    """Writes all images of a domain as records: the files unchanged, no image is decoded.

    The folder is whole or not there: it is first written into a hidden folder beside it. If two processes write the
    same folder, the second waits for the first. `overwrite` replaces what an earlier call wrote there, which stays
    until the new records are whole. `progress` is called with the number of images that are done since the last call.

    Raises:
        InputError: If the folder exists, or the images of the domain are not files.
    """
    if any(examples.images.is_decoded for examples in listing.splits.values()):
        raise InputError("A domain must have image files to be written as records. Received: one of pixels.")
    try:
        # An output "." has no name otherwise.
        output = pathlib.Path(output).resolve()
        _check_output(output, overwrite)
        place = output.with_name(f".{output.name}.prepare_data")
        place.mkdir(parents=True, exist_ok=True)
        with lock(place / "lock"), _unfinished_folder(place, output) as unfinished:
            _check_output(output, overwrite)
            _write(listing, unfinished, images_per_shard, progress)
            # Others may have put something there meanwhile.
            _check_output(output, overwrite)
    except (RuntimeError, OSError) as error:
        # ArrayRecord reports a full disk by a RuntimeError.
        received = f"{str(output)!r} ({first_line(error).split(';')[0]})"
        raise InputError(f"`output` must be a folder that can be written. Received: {received}.") from error


@contextlib.contextmanager
def _unfinished_folder(place, output):
    """Gives a new folder, which takes the place of `output` at the end; the old one outlives a kill and a failure."""
    unfinished, old = place / "new", place / "old"

    def tidy_up():
        if old.exists() and not output.exists():
            os.replace(old, output)
        for left in (unfinished, old):
            shutil.rmtree(left, ignore_errors=True)

    for left in (unfinished, old):
        is_empty = left.is_dir() and not any(left.iterdir())
        if os.path.lexists(left) and marked_version(left, _KIND) is None and not is_empty:
            raise InputError(
                f"`output` must have nothing of others in the folder beside it. Received: {str(left)!r}, which is left "
                "as it is. Hint: another name."
            )
    # After a killed process: this one holds the lock.
    tidy_up()
    try:
        unfinished.mkdir()
        mark_folder(unfinished, _KIND, _FORMAT)
        yield unfinished
        if output.exists():
            os.replace(output, old)
        os.replace(unfinished, output)
    finally:
        tidy_up()


def _check_output(output, overwrite):
    if not os.path.lexists(output):
        return
    if not overwrite:
        raise InputError(
            f"`output` must be a new folder. Received: {str(output)!r}. "
            "Hint: --overwrite replaces a folder that holds what this program wrote, and nothing else."
        )
    own = [one.name for one in output.iterdir() if one.is_file() and not one.is_symlink()] if output.is_dir() else []
    check_marked(output, _KIND, tuple(filter(_OWN_NAME.fullmatch, own)), "output")


def _write(listing, folder, images_per_shard, progress):
    from array_record.python.array_record_module import ArrayRecordWriter

    splits, content = {}, hashlib.sha256()
    for name, examples in listing.splits.items():
        starts = range(0, len(examples), images_per_shard)
        shards = []
        for number, start in enumerate(starts):
            shard = examples.take(np.arange(start, min(start + images_per_shard, len(examples))))
            file = f"{name}-{number:05d}-of-{len(starts):05d}.array_record"
            writer = ArrayRecordWriter(str(folder / file), _WRITER_OPTIONS)
            for encoded in _read_encoded(shard):
                writer.write(encoded)
                content.update(hashlib.sha256(encoded).digest())
                if progress:
                    progress(1)
            writer.close()
            shards.append({"file": file, "records": len(shard)})
        np.save(folder / f"labels_{name}.npy", examples.labels, allow_pickle=False)
        splits[name] = {"shards": shards}
        if examples.groups is not None and any(examples.groups):
            splits[name]["groups"] = examples.groups.tolist()
    index = {
        "format": _FORMAT,
        "class_names": list(listing.class_names),
        "class_table": listing.class_table,
        "test_fraction": listing.default_test_fraction,
        "splits": splits,
        "content": content.hexdigest()[:16],
    }
    write_json(folder / _INDEX_FILE, index)


def _read_encoded(examples):
    """Yields the bytes of the image files."""
    contents = examples.images.contents(np.arange(len(examples)))
    for name in examples.names:
        try:
            yield next(contents)
        except OSError as error:
            raise InputError(f"Every image must be readable. Received: {name!r} ({error.strerror}).") from error
