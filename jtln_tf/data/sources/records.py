"""Image files packed into a few large ones (ArrayRecord), any of which is read at once. Uses no TensorFlow.

DIR/domain.json                        class names, class table, and of each split its shards and their sizes
DIR/labels_train.npy                   class index of each record
DIR/train-00000-of-00008.array_record  the images' files, byte by byte
"""

import hashlib
import itertools
import json
import operator
import os
import pathlib
import re
import shutil

import numpy as np

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.data.examples import Examples
from jtln_tf.data.reading.record_reader import RecordReader
from jtln_tf.data.sources.listing import Listing, select_classes
from jtln_tf.files import lock

_INDEX_FILE = "domain.json"
_FORMAT = 2
_RECORDS_AT_ONCE = 64
# A group of one: a record is read without its neighbours.
_WRITER_OPTIONS = "group_size:1,uncompressed"
_SHARD_NAME = re.compile(r"[a-z]+-\d{5}-of-\d{5}\.array_record")
_OWN_NAME = re.compile(rf"{_SHARD_NAME.pattern}|labels_[a-z]+\.npy|{re.escape(_INDEX_FILE)}")


def list_records(spec, data_root="", cache_dir=""):
    """Lists a `records:` domain, a folder that `write_records` wrote; reads no image.

    Args:
        spec: `DomainSpec`; a relative `name` is looked up in `data_root`.
        data_root: Folder of relative paths; empty is the current one.
        cache_dir: Unused.

    Returns:
        `Listing` of record numbers, its classes already selected.

    Raises:
        MissingInputError: If there is no such folder.
        InputError: If it holds no such domain, or not all of it.
    """
    del cache_dir
    folder = pathlib.Path(data_root) / spec.name
    if not (folder / _INDEX_FILE).is_file():
        raise MissingInputError(f"`records:` must name a folder with {_INDEX_FILE}. Received: {str(folder)!r}.")
    try:
        index = json.loads((folder / _INDEX_FILE).read_text("utf-8"))
        if index["format"] != _FORMAT:
            raise InputError(
                f"Records must be of format {_FORMAT}. Received: {index['format']!r} in {str(folder)!r}. "
                "Hint: pack them again."
            )
        class_names, table, fraction = index["class_names"], index["class_table"], index["test_fraction"]
        _check_classes(class_names, table)
        if not 0 <= fraction < 1:
            raise ValueError(f"test_fraction is {fraction!r}")
        paths, sizes, splits = [], [], {}
        for name, split in index["splits"].items():
            first = sum(sizes)
            for shard in split["shards"]:
                if not _SHARD_NAME.fullmatch(shard["file"]):
                    raise ValueError(f"{shard['file']!r} is no name of a shard")
                paths.append(str(folder / shard["file"]))
                sizes.append(operator.index(shard["records"]))
            splits[name] = _list_split(folder, name, first, sum(sizes), len(class_names))
        if "train" not in splits or min(sizes, default=0) < 0:
            raise ValueError("it has no train split, or a shard of fewer than 0 records")
        content = str(index["content"])
    except InputError:
        raise
    # What is made to break the readers raises anything, lack of memory among it.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"`records:` must name what prepare_data wrote. Received: {str(folder)!r} ({reason})."
        ) from error
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise InputError(f"A domain of records must have all its shards. Received: {missing[0]!r} is missing.")
    reader = RecordReader(paths, sizes)
    options = {"default_test_fraction": fraction, "content": content, "class_table": table}
    return select_classes(Listing(tuple(class_names), splits, reader=reader, **options), spec)


def _check_classes(class_names, table):
    texts = [*class_names, *table, *(text for row in table.values() for item in row.items() for text in item)]
    if not isinstance(class_names, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError("classes and what is known of them must be texts")
    if len(set(class_names)) != len(class_names):
        raise ValueError("a class is there twice")


def _list_split(folder, name, first, end, num_classes):
    if name not in ("train", "validation", "test"):
        raise ValueError(f"{name!r} is no split")
    # Mapped, so that no more is read than is there, whatever its header says.
    labels = np.load(folder / f"labels_{name}.npy", mmap_mode="r", allow_pickle=False)
    does_fit = labels.shape == (end - first,) and labels.dtype.kind in "iu"
    if not does_fit or (len(labels) and not 0 <= labels.min() <= labels.max() < num_classes):
        raise ValueError(f"labels_{name}.npy does not fit")
    names = np.array([f"{folder.name}/{name}[{position}]" for position in range(len(labels))], object)
    return Examples(np.arange(first, end), labels.astype(np.int32), names)


def write_records(listing, output, *, images_per_shard, overwrite=False, progress=None):
    """Writes all images of a domain as records: their files as they are, no image is decoded.

    Args:
        listing: `Listing`.
        output: Folder to write; it is written in a hidden folder beside first, so that it is whole or not there. Of two
            processes that write the same one the second waits for the first.
        images_per_shard: Most images in a file.
        overwrite: Replace what an earlier call wrote there, which stays until the new records are whole.
        progress: Called with the number of images of each chunk that is done, or None.

    Raises:
        InputError: If the folder exists, or the domain's images are not files.
    """
    if any(one.images.ndim != 1 for one in listing.splits.values()) and listing.fetch is None:
        raise InputError("A domain must have image files to be written as records. Received: one of pixels.")
    try:
        # An output "." has no name otherwise.
        output = pathlib.Path(output).resolve()
        _check_output(output, overwrite)
        place = output.with_name(f".{output.name}.prepare_data")
        place.mkdir(parents=True, exist_ok=True)
        unfinished, old = place / "new", place / "old"
        with lock(place / "lock"):
            # Whoever holds the lock may tidy up after a killed process.
            if old.exists() and not output.exists():
                os.replace(old, output)
            _check_output(output, overwrite)
            try:
                for left in (unfinished, old):
                    shutil.rmtree(left, ignore_errors=True)
                unfinished.mkdir()
                _write(listing, unfinished, images_per_shard, progress)
                # That took long enough for others to put something there.
                _check_output(output, overwrite)
                if output.exists():
                    os.replace(output, old)
                os.replace(unfinished, output)
            finally:
                if not output.exists() and old.exists():
                    os.replace(old, output)
                for left in (unfinished, old):
                    shutil.rmtree(left, ignore_errors=True)
    except (RuntimeError, OSError) as error:
        # ArrayRecord tells of a full disk by a RuntimeError.
        reason = str(error).split(";")[0]
        raise InputError(
            f"`output` must be a folder that can be written. Received: {str(output)!r} ({reason})."
        ) from error


def _check_output(output, overwrite):
    if not output.exists() or (overwrite and _is_ours(output)):
        return
    raise InputError(
        f"`output` must be a new folder. Received: {str(output)!r}. "
        "Hint: --overwrite replaces a folder that holds what this program wrote, and nothing else."
    )


def _is_ours(folder):
    """Whether a folder holds records, of this or an earlier format, and nothing else."""
    try:
        index = json.loads((folder / _INDEX_FILE).read_text("utf-8"))
        is_index = index["format"] in range(1, _FORMAT + 1) and {"class_names", "splits", "content"} <= index.keys()
    # Whatever is wrong with it, it is not ours.
    except Exception:
        return False
    is_own = [one.is_file() and not one.is_symlink() and _OWN_NAME.fullmatch(one.name) for one in folder.iterdir()]
    return is_index and all(is_own)


def _write(listing, folder, images_per_shard, progress):
    from array_record.python.array_record_module import ArrayRecordWriter

    index = {
        "format": _FORMAT,
        "class_names": list(listing.class_names),
        "class_table": listing.class_table,
        "test_fraction": listing.default_test_fraction,
        "splits": {},
    }
    content = hashlib.sha256()
    for name, examples in listing.splits.items():
        # In the order of the domain, so that the images held out and drawn of both are the same.
        all_encoded = _read_encoded(listing, examples)
        starts = range(0, len(examples), images_per_shard)
        shards = []
        for number, start in enumerate(starts):
            count = min(images_per_shard, len(examples) - start)
            file = f"{name}-{number:05d}-of-{len(starts):05d}.array_record"
            writer = ArrayRecordWriter(str(folder / file), _WRITER_OPTIONS)
            for encoded in itertools.islice(all_encoded, count):
                writer.write(encoded)
                content.update(hashlib.sha256(encoded).digest())
                if progress:
                    progress(1)
            writer.close()
            shards.append({"file": file, "records": count})
        np.save(folder / f"labels_{name}.npy", examples.labels, allow_pickle=False)
        index["splits"][name] = {"shards": shards}
    index["content"] = content.hexdigest()[:16]
    (folder / _INDEX_FILE).write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _read_encoded(listing, examples):
    """Yields the bytes of the images' files; a few of them are held at a time."""
    if listing.reader is not None:
        for start in range(0, len(examples), _RECORDS_AT_ONCE):
            yield from listing.reader.read(examples.images[start : start + _RECORDS_AT_ONCE])
        return
    if listing.fetch is not None:
        yield from listing.fetch(examples)
        return
    for image, name in zip(examples.images, examples.names, strict=True):
        try:
            encoded = pathlib.Path(image).read_bytes() if isinstance(image, str) else image
        except OSError as error:
            raise InputError(f"Every image must be readable. Received: {name!r} ({error.strerror}).") from error
        yield encoded
