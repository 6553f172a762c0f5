"""A domain: class names that travel with labelled images, in three splits."""

import dataclasses
import os

import numpy as np
from absl import logging

from jtln_tf.config import InputError, parse_domain_spec
from jtln_tf.data.examples import fingerprint, hold_out, sample_per_class
from jtln_tf.data.reading.loading import CACHES, load_split
from jtln_tf.data.reading.split import Split
from jtln_tf.data.sources.builtin import list_builtin
from jtln_tf.data.sources.file_list import list_file_list
from jtln_tf.data.sources.folder import list_folder
from jtln_tf.data.sources.records import list_records
from jtln_tf.data.sources.tfds import list_tfds

_LISTERS = {
    "builtin": list_builtin,
    "folder": list_folder,
    "list": list_file_list,
    "records": list_records,
    "tfds": list_tfds,
}
# Where --cache_dir names no folder; in --data_root.
_CACHE_FOLDER = ".jtln_cache"


@dataclasses.dataclass(frozen=True, eq=False)
class Domain:
    """Images of one domain.

    Attributes:
        name: The specification that it was loaded from.
        class_names: Class names; a label is a position in them.
        train: Training `Split`.
        validation: Held-out `Split` for choices; empty where the training images are too few.
        test: `Split` for the final figure; nothing is chosen by it.
        num_bad_images: Unreadable images that were left out.
        fingerprint: Of the training images and their labels; another one where they changed.
        class_table: What is known of each class: dicts from column to text by class name (a folder's `classes.csv`,
            further columns of a list, or the other class labels of a `tfds:` data set).
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    num_bad_images: int = 0
    fingerprint: str = ""
    class_table: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    @property
    def num_classes(self):
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self):
        """(height, width, channels) of an image."""
        return (self.train.image_size, self.train.image_size, self.train.channels)

    def split(self, name):
        """Returns the split called `train`, `validation` or `test`."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        if name not in splits:
            raise InputError(f"`split` must be one of {', '.join(splits)}. Received: {name!r}.")
        return splits[name]


def load_domain(
    spec,
    *,
    seed=0,
    labels_per_class=None,
    image_size=None,
    channels=None,
    data_root="",
    cache="memory",
    cache_dir="",
    skip_bad_images=False,
):
    """Loads a domain.

    Where the data has no test split, a share of each class is held out as test; where it has no validation split, a
    share of the remaining training images. Both are the same for every seed. Then `per_class` training images of each
    class are drawn by the seed. Every image in use is decoded once here, so that a broken one is found before training.

    Args:
        spec: `builtin:NAME`, `folder:PATH`, `list:PATH`, `records:PATH` or `tfds:NAME[/CONFIG][:SPLIT]` with options;
            see `parse_domain_spec`.
        seed: Seed of the label draw.
        labels_per_class: Training images of each class, or None for all.
        image_size: Side of the square images in pixels; None is 28 for builtin domains, else 224.
        channels: 1 (gray) or 3 (RGB); None is 1 for builtin domains, else 3.
        data_root: Folder of relative paths and of `tfds:` data.
        cache: `memory` keeps the decoded images; `disk` keeps them in files of `cache_dir`, which other runs on
            the same images read too; `none` decodes them each time they are read.
        cache_dir: Folder of what is kept on the disk; empty is `.jtln_cache` in `data_root`.
        skip_bad_images: Leave out unreadable images instead of raising.

    Returns:
        A `Domain`.

    Raises:
        MissingInputError: If a folder does not exist.
        InputError: If the specification does not fit the data, or an image cannot be decoded.
    """
    parsed = parse_domain_spec(spec).with_labels(labels_per_class)
    if cache not in CACHES:
        raise InputError(f"`cache` must be one of {', '.join(CACHES)}. Received: {cache!r}.")
    if channels not in (None, 1, 3):
        raise InputError(f"`channels` must be 1 or 3. Received: {channels!r}.")
    cache_dir = cache_dir or default_cache_folder(data_root)
    listing = list_domain(parsed, data_root=data_root, cache_dir=cache_dir)
    image_size = image_size or listing.image_size
    channels = channels or (1 if parsed.kind == "builtin" else 3)
    bad_names = set()
    while True:
        splits = divide_listing(listing, parsed, seed, bad_names)
        loaded, found_bad = {}, {}
        for name, examples in splits.items():
            loaded[name], bad = load_split(
                listing, examples, image_size, channels, cache, cache_dir, crop_bottom=parsed.crop_bottom
            )
            found_bad.update(bad)
        if not found_bad:
            return Domain(
                parsed.text,
                listing.class_names,
                **loaded,
                num_bad_images=len(bad_names),
                fingerprint=fingerprint(splits["train"], listing.class_names, _content(listing, parsed)),
                class_table=listing.class_table,
            )
        if not skip_bad_images:
            name, reason = next(iter(found_bad.items()))
            more = f" ({len(found_bad) - 1} more)" if len(found_bad) > 1 else ""
            raise InputError(
                f"Every image must be readable. Received: {name!r}{more} ({reason}). "
                "Hint: --skip_bad_images leaves such images out."
            )
        # Others are drawn in their place, so that per_class stays exact; those are checked in the next round.
        bad_names.update(found_bad)
        logging.warning(
            "%s: left out %d unreadable images, %r among them.", parsed.text, len(bad_names), next(iter(found_bad))
        )


def default_cache_folder(data_root=""):
    """Returns the folder of what is kept on the disk where none is named."""
    return os.path.join(data_root, _CACHE_FOLDER)


def list_domain(spec, *, data_root="", cache_dir=""):
    """Lists the images of a domain, with their classes and the splits that the data has; decodes none.

    Args:
        spec: As for `load_domain`, or a `DomainSpec`.
        data_root: See `load_domain`.
        cache_dir: See `load_domain`.

    Returns:
        A `Listing`.

    Raises:
        MissingInputError: If a folder does not exist.
        InputError: If the specification does not fit the data.
    """
    spec = parse_domain_spec(spec)
    return _LISTERS[spec.kind](spec, data_root, cache_dir or default_cache_folder(data_root))


def _content(listing, spec):
    # What is cut off decides what is seen.
    return f"{listing.content} crop_bottom={spec.crop_bottom}" if spec.crop_bottom else listing.content


def divide_listing(listing, spec, seed, bad_names=()):
    """Divides the images of a domain into the three splits that a run uses, as `load_domain` says.

    Args:
        listing: `Listing`.
        spec: Its `DomainSpec`.
        seed: Seed of the label draw.
        bad_names: Names of images to leave out.

    Returns:
        `Examples` by `train`, `validation` and `test`.

    Raises:
        InputError: If a class has no training images, or fewer than are to be drawn.
    """
    splits = dict(listing.splits)
    if bad_names:
        for name, examples in splits.items():
            splits[name] = examples.take(np.flatnonzero([one not in bad_names for one in examples.names]))
    if "test" not in splits:
        fraction = spec.test_fraction if spec.test_fraction is not None else listing.default_test_fraction
        splits["train"], splits["test"] = hold_out(splits["train"], fraction)
    if "validation" not in splits:
        splits["train"], splits["validation"] = hold_out(splits["train"], spec.validation_fraction)
    counts = np.bincount(splits["train"].labels, minlength=len(listing.class_names))
    if not counts.all():
        empty = listing.class_names[int(np.argmin(counts))]
        raise InputError(f"A class must have training images. Received: {empty!r} of {spec.text!r} with none.")
    if spec.per_class:
        splits["train"] = sample_per_class(splits["train"], spec.per_class, listing.class_names, seed)
    return {name: splits[name] for name in ("train", "validation", "test")}
