"""Labelled images of one split, and how batches of them are read."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from jtln_tf.data.reading.decoding import decode_image
from jtln_tf.data.reading.record_reader import RecordReader

# TensorFlow reads fastest from a copy of its own; of arrays beyond this many bytes there is none.
_COPIED_BYTES = 2**28
# What `Split.decode` raises for a broken image; the latter where TensorFlow puts bytes of the file into its message.
DECODING_ERRORS = (tf.errors.OpError, UnicodeDecodeError)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Labelled images, ready to be read.

    Attributes:
        images: uint8 pixels [N, image_size, image_size, channels], in memory or mapped from a file; or, not decoded
            yet, [N] file paths or bytes (objects), or [N] numbers of records. What a frozen part of a network makes of
            the images, float32 [views * N, ...], stands in their place where only the rest of it is trained.
        labels: int32 class indices [N].
        image_size: Side of an image in pixels.
        channels: 1 or 3.
        reader: `RecordReader` of the numbers of records; else None.
        crop_bottom: Rows that decoding cuts off the bottom of an image first.
        views: Entries of `images` for each label: the first N are the images themselves, then come further views.
    """

    images: np.ndarray
    labels: np.ndarray
    image_size: int
    channels: int
    reader: RecordReader | None = None
    crop_bottom: int = 0
    views: int = 1

    def __len__(self):
        return len(self.labels)

    @property
    def is_decoded(self):
        """Whether `images` are numbers that a network takes as they are."""
        return self.reader is None and self.images.dtype != object

    @property
    def item_shape(self):
        """Shape of what a network takes for one image."""
        return self.images.shape[1:] if self.is_decoded else (self.image_size, self.image_size, self.channels)

    @property
    def holds_images(self):
        """Whether it is pixels that a network takes, which can be augmented."""
        return not self.is_decoded or self.images.dtype == np.uint8

    def take(self, indices):
        """Returns the split of the images at `indices`, with all views of each."""
        indices = np.asarray(indices)
        entries = (np.arange(self.views)[:, None] * len(self) + indices).reshape(-1)
        return dataclasses.replace(self, images=self.images[entries], labels=self.labels[indices])

    def dataset(self, batch_size):
        """Returns a `tf.data.Dataset` of (images [b, ...], labels [b]): every image once, its first view, in order."""
        rows = tf.data.Dataset.range(len(self)).batch(batch_size)
        labels = tf.data.Dataset.from_tensor_slices(self.labels).batch(batch_size)
        return tf.data.Dataset.zip(self.read(rows), labels).prefetch(1)

    def read(self, batches):
        """Reads batches of entries, in the order given.

        Args:
            batches: `tf.data.Dataset` of positions in `images`, int64 [b].

        Returns:
            `tf.data.Dataset` of images [b, H, W, C], uint8 (or what else `images` holds).
        """
        if self.is_decoded:
            # One batch at a time: gathering is cheap next to a training step.
            return batches.map(self._gather(), num_parallel_calls=1)
        # A batch a call: to hand over single images costs as much as to resize them.
        return self._find_entries(batches).map(self._decoder(), num_parallel_calls=tf.data.AUTOTUNE)

    def decode(self, rows):
        """Decodes the images at positions [b] of a split that is not decoded.

        Returns:
            uint8 pixels [b, image_size, image_size, channels], a tensor.

        Raises:
            InputError: If a shard of records has gone or is damaged.
            DECODING_ERRORS: If an image is broken.
        """
        entries = self.images[rows] if self.reader is None else self.reader.read(self.images[rows])
        return self._decoder()(_constant(entries.tolist(), tf.string))

    def find_reason(self, row):
        """Returns why the image at a position cannot be decoded, in one line."""
        try:
            self.decode([row])
        except tf.errors.OpError as error:
            # Before the reason stands where in the graph it was found, behind it the name of the operation.
            return error.message.partition("\n\t [[")[0].strip().splitlines()[-1].split("}} ")[-1].split(" [Op:")[0]
        except DECODING_ERRORS:
            return "no image that is known"
        return "unreadable"

    def _decoder(self):
        is_path = self.reader is None and len(self) > 0 and isinstance(self.images[0], str)
        return _make_decoder(is_path, self.image_size, self.channels, self.crop_bottom)

    def _find_entries(self, batches):
        if self.reader is not None:
            return batches.map(self._read_records, num_parallel_calls=1).prefetch(2)
        entries = _constant(self.images.tolist(), tf.string)
        return batches.map(lambda rows: tf.gather(entries, rows))

    def _gather(self):
        shape = (None, *self.images.shape[1:])
        if isinstance(self.images, np.memmap) or self.images.nbytes > _COPIED_BYTES:

            def gather(rows):
                found = tf.numpy_function(self._take_entries, [rows], self.images.dtype)
                return tf.ensure_shape(found, shape)

            return gather
        images = _constant(self.images)
        return lambda rows: tf.gather(images, rows)

    def _take_entries(self, rows):
        return np.asarray(self.images[rows])

    def _read_records(self, rows):
        encoded = tf.numpy_function(lambda numbers: self.reader.read(self.images[numbers]), [rows], tf.string)
        return tf.ensure_shape(encoded, [None])


@functools.cache
def _make_decoder(is_path, image_size, channels, crop_bottom):
    """Returns a function from paths, or the bytes of files, [b] to pixels; to make it takes a second."""

    def decode(entry):
        encoded = tf.io.read_file(entry) if is_path else entry
        return decode_image(encoded, image_size, channels, crop_bottom)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def decode_batch(entries):
        # A GPU's memory is for the network.
        with tf.device("CPU:0"):
            spec = tf.TensorSpec((image_size, image_size, channels), tf.uint8)
            return tf.map_fn(decode, entries, fn_output_signature=spec)

    return decode_batch


def _constant(values, dtype=None):
    with tf.device("CPU:0"):
        # A GPU's memory is for the network.
        return tf.constant(values, dtype)
