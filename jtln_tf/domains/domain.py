"""A domain: class names that travel with labelled images, in three splits."""

import dataclasses

import numpy as np
import tensorflow as tf
from absl import logging

from jtln_tf.config import InputError, parse_domain_spec
from jtln_tf.domains.builtin import list_builtin
from jtln_tf.domains.decoding import decode_image, resize_images
from jtln_tf.domains.examples import fingerprint, hold_out, sample_per_class
from jtln_tf.domains.folder import list_folder
from jtln_tf.domains.tfds import list_tfds

_LISTERS = {"builtin": list_builtin, "folder": list_folder, "tfds": list_tfds}


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Labelled images, ready to be read.

    Attributes:
        images: uint8 pixels [N, image_size, image_size, channels]; or, not decoded yet, [N] file paths or bytes.
        labels: int32 class indices [N].
        image_size: Side of an image in pixels.
        channels: 1 or 3.
        crop_bottom: Rows that decoding cuts off the bottom of an image first.
    """

    images: np.ndarray
    labels: np.ndarray
    image_size: int
    channels: int
    crop_bottom: int = 0

    def __len__(self):
        return len(self.labels)

    @property
    def is_decoded(self):
        """Whether `images` are pixels."""
        return self.images.ndim == 4

    def take(self, indices):
        """Returns the split of the images at `indices`."""
        return dataclasses.replace(self, images=self.images[indices], labels=self.labels[indices])

    def dataset(self, batch_size):
        """Returns a `tf.data.Dataset` of (uint8 images [b, H, W, C], labels [b]), every image once, in order."""
        images = self.images if self.is_decoded else tf.constant(self.images.tolist(), tf.string)
        rows = tf.data.Dataset.from_tensor_slices((images, self.labels))
        if not self.is_decoded:
            rows = rows.map(lambda image, label: (self.decode(image), label), num_parallel_calls=tf.data.AUTOTUNE)
        return rows.batch(batch_size).prefetch(1)

    def decode(self, image):
        """Decodes one entry of `images` that is a path or bytes (scalar string tensor) to pixels [H, W, C]."""
        is_path = len(self) > 0 and isinstance(self.images[0], str)
        return _decode_entry(image, self.image_size, self.channels, self.crop_bottom, is_path)


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
            or the other class labels of a `tfds:` data set).
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
    skip_bad_images=False,
):
    """Loads a domain.

    Where the data has no test split, a share of each class is held out as test; where it has no validation split, a
    share of the remaining training images. Both are the same for every seed. Then `per_class` training images of each
    class are drawn by the seed. Every image in use is decoded once here, so that a broken one is found before training.

    Args:
        spec: `builtin:NAME`, `folder:PATH` or `tfds:NAME[/CONFIG][:SPLIT]` with options; see `parse_domain_spec`.
        seed: Seed of the label draw.
        labels_per_class: Training images of each class, or None for all.
        image_size: Side of the square images in pixels; None is 28 for builtin domains, else 224.
        channels: 1 (gray) or 3 (RGB); None is 1 for builtin domains, else 3.
        data_root: Folder of relative `folder:` paths and of `tfds:` data.
        cache: `memory` keeps the decoded images; `none` decodes them each time they are read.
        skip_bad_images: Leave out unreadable images instead of raising.

    Returns:
        A `Domain`.

    Raises:
        MissingInputError: If a folder does not exist.
        InputError: If the specification does not fit the data, or an image cannot be decoded.
    """
    parsed = parse_domain_spec(spec, per_class=labels_per_class or None)
    if cache not in ("memory", "none"):
        raise InputError(f"`cache` must be one of memory, none. Received: {cache!r}.")
    if channels not in (None, 1, 3):
        raise InputError(f"`channels` must be 1 or 3. Received: {channels!r}.")
    listing = _LISTERS[parsed.kind](parsed, data_root)
    image_size = image_size or listing.image_size
    channels = channels or (1 if parsed.kind == "builtin" else 3)
    bad_names = set()
    while True:
        splits = _divide(listing, parsed, seed, bad_names)
        loaded, found_bad = {}, {}
        for name, examples in splits.items():
            loaded[name], bad = _load_split(listing, examples, image_size, channels, parsed.crop_bottom, cache)
            found_bad.update(bad)
        if not found_bad:
            return Domain(
                spec,
                listing.class_names,
                **loaded,
                num_bad_images=len(bad_names),
                fingerprint=fingerprint(splits["train"], listing.class_names, parsed.crop_bottom),
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
            "%s: left out %d unreadable images, %s among them.", spec, len(bad_names), next(iter(found_bad))
        )


def _divide(listing, spec, seed, bad_names):
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
    return splits


def _load_split(listing, examples, image_size, channels, crop_bottom, cache):
    """Returns a `Split` and the reasons of the images that could not be decoded, by name."""
    if listing.fetch is not None:
        examples = listing.fetch(examples)
    if examples.images.ndim == 4:
        pixels = examples.images
        if pixels.shape[-1] != channels:
            pixels = (
                np.repeat(pixels, channels, axis=-1) if channels == 3 else tf.image.rgb_to_grayscale(pixels).numpy()
            )
        if pixels.shape[1:3] != (image_size, image_size) and len(pixels):
            pixels = resize_images(pixels, image_size).numpy()
        return Split(pixels, examples.labels, image_size, channels), {}
    pixels, bad = _decode_all(examples, image_size, channels, crop_bottom, keep=cache == "memory")
    images = examples.images if pixels is None else pixels
    return Split(images, examples.labels, image_size, channels, crop_bottom), bad


def _decode_all(examples, image_size, channels, crop_bottom, keep):
    shape = (image_size, image_size, channels)
    pixels = np.empty((len(examples), *shape), np.uint8) if keep else None
    if not len(examples):
        return pixels, {}
    is_path = isinstance(examples.images[0], str)
    rows = tf.data.Dataset.from_tensor_slices((np.arange(len(examples)), examples.images.tolist()))

    def decode(index, image):
        return index, _decode_entry(image, image_size, channels, crop_bottom, is_path)

    # ignore_errors drops what cannot be decoded: the indices that do not come out are the broken images.
    rows = rows.map(decode, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    is_readable = np.zeros(len(examples), bool)
    for index, image in rows.as_numpy_iterator():
        is_readable[index] = True
        if keep:
            pixels[index] = image
    return pixels, {
        str(examples.names[index]): _reason(examples.images[index], image_size, channels, crop_bottom, is_path)
        for index in np.flatnonzero(~is_readable)
    }


def _decode_entry(image, image_size, channels, crop_bottom, is_path):
    return decode_image(tf.io.read_file(image) if is_path else image, image_size, channels, crop_bottom)


def _reason(image, image_size, channels, crop_bottom, is_path):
    try:
        _decode_entry(tf.constant(image), image_size, channels, crop_bottom, is_path)
    except tf.errors.OpError as error:
        return error.message.splitlines()[0].split("}} ")[-1].split(" [Op:")[0]
    return "unreadable"
