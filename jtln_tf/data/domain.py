"""A domain: class names and labelled images in three splits."""

import dataclasses
import urllib.parse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from absl import logging

from jtln_tf.config import CACHES, DataConfig, DomainSpec, InputError, parse_domain_spec
from jtln_tf.data.decoded import load_split, open_split
from jtln_tf.data.examples import Examples, fingerprint, hold_out, sample_per_class
from jtln_tf.data.reading.split import Split
from jtln_tf.data.sources import find_lister
from jtln_tf.data.sources.listing import Listing
from jtln_tf.files import available_memory, default_cache_folder

# Share of the memory at hand that pixels may take: the network, its optimizer and the batches need some too.
_MOST_MEMORY = 0.8
# In a message; there may be thousands.
_NAMED_CLASSES = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Domain:
    """Images of one domain.

    Attributes:
        name: The specification that it was loaded from.
        class_names: Class names; a label is a position in them.
        train: Training `Split`.
        validation: `Split` held out for choices; it may be empty.
        test: `Split` for the final accuracy; nothing is chosen by it.
        num_bad_images: Number of unreadable images that were left out.
        fingerprint: Text that changes with the training images and their labels.
        class_table: What is known of each class, a dict from column to text by class name: a folder's `classes.csv`,
            further columns of a list, or further class labels of a `tfds:` data set.

    Examples:
        >>> import jtln_tf
        >>> digits = jtln_tf.load_domain("builtin:optdigits?classes=0,1,7&per_class=5")
        >>> digits.class_names, digits.num_classes, digits.image_shape
        (('0', '1', '7'), 3, (28, 28, 1))
        >>> digits.split("train").labels.tolist()
        [0, 1, 1, 1, 1, 2, 2, 0, 1, 0, 0, 2, 2, 0, 2]
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
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image."""
        return (self.train.image_size, self.train.image_size, self.train.channels)

    def split(self, name: str) -> Split:
        """Returns the split called `train`, `validation` or `test`."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        if name not in splits:
            raise InputError(f"`split` must be one of {', '.join(splits)}. Received: {name!r}.")
        return splits[name]


class DividedDomain(NamedTuple):
    """A domain as a run uses it, before any image is decoded.

    Attributes:
        spec: The parsed specification.
        listing: All images of the domain.
        splits: The images in use, as `train`, `validation` and `test`.
    """

    spec: DomainSpec
    listing: Listing
    splits: dict[str, Examples]

    @property
    def num_images(self) -> int:
        """Number of images in all splits."""
        return sum(map(len, self.splits.values()))


def load_domain(
    spec: str | DomainSpec,
    *,
    seed: int = 0,
    labels_per_class: int | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    data_root: str = "",
    cache: str = DataConfig.cache,
    cache_dir: str = "",
    skip_bad_images: bool = False,
) -> Domain:
    """Loads a domain.

    Data without a test split gives a share of each class as test; data without a validation split gives a share of the
    remaining training images. Both depend on the content of the images alone (see `hold_out`), so they are the same for
    every seed. Then the seed draws `per_class` training images of each class. Every image in use is decoded once, so
    that a broken one is found before training.

    Args:
        spec: `builtin:NAME`, `folder:PATH`, `list:PATH`, `records:PATH` or `tfds:NAME[/CONFIG][:SPLIT]` with options;
            see `parse_domain_spec`.
        seed: Seed of the label draw.
        labels_per_class: Training images of each class; None takes all.
        image_size: Side of the square images in pixels; None is 28 for builtin domains, 224 for others.
        channels: 1 (gray) or 3 (RGB); None is 1 for builtin domains, 3 for others.
        data_root: Folder of relative paths and of `tfds:` data.
        cache: `memory` keeps the decoded images; `disk` keeps them in files of `cache_dir`, which later runs on the
            same images read too; `none` decodes them each time they are read.
        cache_dir: Folder of what is kept on the disk; empty is `.jtln_cache` in `data_root`.
        skip_bad_images: Leave out unreadable images instead of raising.

    Returns:
        A `Domain`.

    Raises:
        MissingInputError: If a folder does not exist.
        InputError: If the specification does not fit the data, or an image cannot be decoded.

    Examples:
        >>> import jtln_tf
        >>> len(jtln_tf.load_domain("builtin:optdigits", labels_per_class=3).train)
        30
    """
    spec = parse_domain_spec(spec).with_labels(labels_per_class)
    if cache not in CACHES:
        raise InputError(f"`cache` must be one of {', '.join(CACHES)}. Received: {cache!r}.")
    if channels not in (None, 1, 3):
        raise InputError(f"`channels` must be 1 or 3. Received: {channels!r}.")
    cache_dir = cache_dir or default_cache_folder(data_root)
    listing = list_domain(spec, data_root=data_root, cache_dir=cache_dir)
    shape = {"image_size": image_size or listing.image_size, "channels": channels or listing.channels}
    return _load_listing(listing, spec, seed, skip_bad_images, cache=cache, cache_dir=cache_dir, **shape)


def load_domains(
    data: DataConfig, *, seed: int, default_size: int | None = None, is_known: Callable | None = None
) -> tuple[Domain, Domain]:
    """Loads the source and the target of a configuration at one image size; raises the errors of `load_domain`.

    Before any image is decoded, a domain of a single class is an `InputError` too.

    `labels_per_class` applies to the target. `default_size` is the side of the images in pixels if `data` has none; if
    both are None, it is the larger one of the usual sizes of both domains. `is_known` is called with a `Split` of files
    or records; one for which it is true is decoded only where its images are read.
    """
    cache_dir = data.cache_dir or default_cache_folder(data.data_root)
    specs = (data.source, data.target.with_labels(data.labels_per_class))
    listings = [list_domain(spec, data_root=data.data_root, cache_dir=cache_dir) for spec in specs]
    for listing, spec in zip(listings, specs, strict=True):
        _check_can_be_told_apart(listing, spec)
    image_size = data.image_size or default_size or max(listing.image_size for listing in listings)
    options = {"image_size": image_size, "channels": data.channels, "cache": data.cache, "cache_dir": cache_dir}
    options["is_known"] = is_known
    source, target = (
        _load_listing(listing, spec, seed, data.skip_bad_images, **options)
        for listing, spec in zip(listings, specs, strict=True)
    )
    return source, target


def _load_listing(listing, spec, seed, skip_bad_images, **options):
    """Divides and decodes a listed domain; takes the options of `load_split` too."""
    bad_names = set()
    while True:
        divided = _divide(listing, spec, seed, bad_names)
        _check_no_class_is_empty(listing, divided["train"], spec)
        _check_memory(divided, spec, **{"is_known": None, **options})
        splits, found_bad = {}, {}
        for name, examples in divided.items():
            splits[name], bad = load_split(examples, crop_bottom=spec.crop_bottom, **options)
            found_bad.update(bad)
        if not found_bad:
            # Cropping changes what a network sees.
            note = f"crop_bottom={spec.crop_bottom}" if spec.crop_bottom else ""
            return Domain(
                spec.text,
                listing.class_names,
                **splits,
                num_bad_images=len(bad_names),
                fingerprint=fingerprint(divided["train"], listing.class_names, note),
                class_table=listing.class_table,
            )
        name, reason = next(iter(found_bad.items()))
        if not skip_bad_images:
            more = f" ({len(found_bad) - 1} more)" if len(found_bad) > 1 else ""
            raise InputError(
                f"Every image must be readable. Received: {name!r}{more} ({reason}). "
                "Hint: --skip_bad_images leaves such images out."
            )
        # The next round draws others instead, so that per_class stays exact, and checks them.
        bad_names.update(found_bad)
        logging.warning("%s: left out %d unreadable images, %r among them.", spec.text, len(bad_names), name)


def _check_memory(divided, spec, cache, image_size, channels, is_known, **_):
    """Raises `InputError` if the pixels that are going to be kept in memory, a byte each, take too much of it."""
    encoded = [examples for examples in divided.values() if not examples.images.is_decoded]
    most, bytes_each = _MOST_MEMORY * available_memory(), image_size**2 * channels
    if cache != "memory" or sum(map(len, encoded)) * bytes_each <= most:
        return
    if is_known:
        options = {"image_size": image_size, "channels": channels, "crop_bottom": spec.crop_bottom}
        encoded = [examples for examples in encoded if not is_known(open_split(examples, **options))]
    count = sum(map(len, encoded))
    if count * bytes_each > most:
        raise InputError(
            f"`cache`=memory must have room for the pixels. Received: {count * bytes_each >> 20:,} MiB for {count:,} "
            f"images of {image_size} px in {spec.text}; {int(most) >> 20:,} MiB may be taken. Hint: --cache=disk."
        )


def list_domain(spec: str | DomainSpec, *, data_root: str = "", cache_dir: str = "") -> Listing:
    """Returns the `Listing` of the images of a domain; arguments and errors are those of `load_domain`."""
    spec = parse_domain_spec(spec)
    return find_lister(spec.kind)(spec, data_root, cache_dir or default_cache_folder(data_root))


def divide_domain(spec: str | DomainSpec, *, data_root: str = "", cache_dir: str = "", seed: int = 0) -> DividedDomain:
    """Lists a domain and divides it as a run does; arguments and errors are those of `load_domain`."""
    spec = parse_domain_spec(spec)
    listing = list_domain(spec, data_root=data_root, cache_dir=cache_dir)
    return DividedDomain(spec, listing, _divide(listing, spec, seed))


def _divide(listing, spec, seed, bad_names=()):
    """Returns the `Examples` of the three splits of a run, without images of some names; see `load_domain`."""
    splits = dict(listing.splits)
    if bad_names:
        for name, examples in splits.items():
            splits[name] = examples.take(np.flatnonzero([one not in bad_names for one in examples.names]))
    if "test" not in splits:
        fraction = spec.test_fraction if spec.test_fraction is not None else listing.default_test_fraction
        splits["train"], splits["test"] = hold_out(splits["train"], fraction, "test")
    if "validation" not in splits:
        splits["train"], splits["validation"] = hold_out(splits["train"], spec.validation_fraction, "validation")
    if spec.per_class:
        _check_no_class_is_empty(listing, splits["train"], spec)
        splits["train"] = sample_per_class(splits["train"], spec.per_class, listing.class_names, seed)
    return {name: splits[name] for name in ("train", "validation", "test")}


def _check_no_class_is_empty(listing, train, spec):
    counts = np.bincount(train.labels, minlength=len(listing.class_names))
    empty = [listing.class_names[label] for label in np.flatnonzero(counts == 0)]
    if empty:
        more = f" ({len(empty) - 1} more)" if empty[1:] else ""
        names = ",".join(urllib.parse.quote(name, safe=" /") for name in empty[:_NAMED_CLASSES])
        raise InputError(
            f"A class must have training images. Received: {empty[0]!r}{more} of {spec.text!r} with none. "
            f"Hint: add images, or leave it out with exclude={names}{',...' if empty[_NAMED_CLASSES:] else ''}."
        )


def _check_can_be_told_apart(listing, spec):
    if len(listing.class_names) < 2:
        raise InputError(
            f"A domain must have at least two classes. Received: {spec.text!r} with {listing.class_names[0]!r} alone."
        )
