"""A split: labelled images, and how batches of them are read."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from jtln_tf.data.reading.decoding import decode_image, explain_error
from jtln_tf.data.reading.images import Images, as_images, constant_on_cpu

_BATCH = 64
# What `Split.decode` raises for a broken image; the second if TensorFlow puts bytes of the file into its message.
_DECODING_ERRORS = (tf.errors.OpError, UnicodeDecodeError)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Labelled images, ready to be read.

    Attributes:
        images: `Pixels`, `Files` or `Records`. An array of texts becomes `Files`, another one `Pixels`. If only the end
            of a network is trained, these are activations of its frozen part: float32 [views * N, ...].
        labels: int32 class indices [N].
        image_size: Side of an image in pixels.
        channels: 1 or 3.
        crop_bottom: Rows that decoding cuts off the bottom of an image file.
        views: Entries of `images` for each label: the first N are the images themselves, then come augmented views.
        origin: The images as they came, [N], before they were decoded or replaced by activations; None is `images`.
    """

    images: Images | np.ndarray
    labels: np.ndarray
    image_size: int
    channels: int
    crop_bottom: int = 0
    views: int = 1
    origin: Images | None = None

    def __post_init__(self):
        object.__setattr__(self, "images", as_images(self.images))
        object.__setattr__(self, "origin", self.origin or self.images)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_decoded(self) -> bool:
        """Whether the images are arrays that a network takes unchanged."""
        return self.images.is_decoded

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of what a network takes for one image."""
        return self.images.values.shape[1:] if self.is_decoded else (self.image_size, self.image_size, self.channels)

    @property
    def holds_images(self) -> bool:
        """Whether a network gets pixels, which can be augmented, and not activations."""
        return not self.is_decoded or self.images.values.dtype == np.uint8

    def take(self, indices: Sequence[int]) -> "Split":
        """Returns the split of the images at `indices`, with all views of each."""
        indices = np.asarray(indices, np.int64)
        entries = (np.arange(self.views)[:, None] * len(self) + indices).reshape(-1)
        parts = {"images": self.images.take(entries), "origin": self.origin.take(indices)}
        return dataclasses.replace(self, labels=self.labels[indices], **parts)

    def batches(self, batch_size: int) -> Iterator[tuple[tf.Tensor, np.ndarray]]:
        """Yields (images [b, ...], labels [b]): every image once, its first view, in order."""
        starts = range(0, len(self), batch_size)
        rows = [np.arange(start, min(start + batch_size, len(self))) for start in starts]
        return zip(self.read_all(rows), (self.labels[own] for own in rows), strict=True)

    def read_all(self, batches: Sequence[np.ndarray]) -> Iterator[tf.Tensor]:
        """Yields what `read` reads for batches of positions [b] that are known before."""
        if self.is_decoded:
            # Building a dataset takes longer than reading a small split.
            return (constant_on_cpu(np.asarray(self.images[rows])) for rows in batches)
        ends = np.cumsum([len(rows) for rows in batches])
        bounds, rows = tf.constant([0, *ends], tf.int64), tf.constant(np.concatenate([np.empty(0, np.int64), *batches]))
        numbers = tf.data.Dataset.range(len(batches))
        # One stream for all, for the same reason.
        return iter(self.read(numbers.map(lambda number: rows[bounds[number] : bounds[number + 1]])).prefetch(1))

    def read(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Reads batches of positions in `images`, int64 [b], as uint8 pixels [b, H, W, C] or as activations."""
        stream = self.images.stream(batches)
        # A whole batch for each call: handing over single images takes as long as resizing them.
        return stream if self.is_decoded else stream.map(self._decoder(), num_parallel_calls=tf.data.AUTOTUNE)

    def decode(self, rows: Sequence[int]) -> tf.Tensor:
        """Decodes some images of a split that is not decoded: uint8 [b, image_size, image_size, channels].

        Raises `InputError` if a file of records is damaged, and one of `_DECODING_ERRORS` if an image is broken.
        """
        return self._decoder()(constant_on_cpu(self.images.entries(rows), tf.string))

    def find_reason(self, row: int) -> str:
        """Returns why an image cannot be decoded, in one line."""
        try:
            self.decode([row])
        except tf.errors.OpError as error:
            return explain_error(error)
        except _DECODING_ERRORS:
            return "no known image format"
        return "unreadable"

    def _decoder(self):
        return _make_decoder(self.images.to_bytes, self.image_size, self.channels, self.crop_bottom)


def decode_all(split: Split, keep: Callable | None = None) -> np.ndarray:
    """Decodes every image of a split once; returns the positions of those that cannot be decoded.

    `keep` is called with the positions of each batch, ascending, and its images [b, H, W, C]. A split that is decoded
    already is one batch.
    """
    if split.is_decoded:
        if keep:
            keep(np.arange(len(split)), split.images.values)
        return np.empty(0, np.int64)
    bad = []
    for start in range(0, len(split), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(split)))
        try:
            images = split.decode(rows)
        except _DECODING_ERRORS:
            # One broken image stops its whole batch.
            decoded = {}
            for row in rows:
                with contextlib.suppress(*_DECODING_ERRORS):
                    decoded[row] = split.decode([row])[0].numpy()
            bad.extend(set(rows) - set(decoded))
            rows, images = np.array(list(decoded), np.int64), np.array(list(decoded.values()), np.uint8)
        # Images that are not kept need not leave TensorFlow.
        if keep and len(rows):
            keep(rows, np.asarray(images))
    return np.sort(np.array(bad, np.int64))


@functools.cache
def _make_decoder(to_bytes, image_size, channels, crop_bottom):
    """Returns a function from entries [b] to pixels; building it takes a second."""

    def decode(entry):
        return decode_image(to_bytes(entry), image_size, channels, crop_bottom)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def decode_batch(entries):
        # A GPU's memory is for the network.
        with tf.device("CPU:0"):
            spec = tf.TensorSpec((image_size, image_size, channels), tf.uint8)
            return tf.map_fn(decode, entries, fn_output_signature=spec)

    return decode_batch
