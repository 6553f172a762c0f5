"""Random draws that depend on the seed, the step and an image's position in its batch alone."""

import typing
import zlib

import keras
import tensorflow as tf


class Draws(typing.NamedTuple):
    """Draws for some images of a batch: made for the whole batch, so that each part of it gets the same ones.

    Attributes:
        key: int64 [2].
        batch_size: Images in the whole batch.
        positions: Positions of the images at hand in the batch [b]; None: all images, in order.
    """

    key: tf.Tensor
    batch_size: int | tf.Tensor
    positions: tf.Tensor | None = None

    def named(self, name: str) -> "Draws":
        """Returns draws that differ from those of any other name."""
        return self._replace(key=tf.random.fold_in(self.key, tf.constant(zlib.crc32(name.encode()), tf.int64)))

    def at(self, rows: tf.Tensor) -> "Draws":
        """Returns the draws for the images at the rows [k] of the images at hand."""
        return self._replace(positions=rows if self.positions is None else tf.gather(self.positions, rows))

    def uniform(self, shape: tuple[int, ...], low=0.0, high=1.0, dtype=tf.float32) -> tf.Tensor:
        """Draws `shape` numbers for each image, evenly from `low` to `high` (excluded): [b, *shape]."""
        return self.of_images(tf.random.stateless_uniform([self.batch_size, *shape], self.key, low, high, dtype))

    def of_images(self, values: tf.Tensor) -> tf.Tensor:
        """Returns the values [b, ...] of the images at hand, of values for the whole batch."""
        return values if self.positions is None else tf.gather(values, self.positions)


class KeyedSeeds(keras.random.SeedGenerator):
    """Gives each draw of a Keras layer a seed of its own that follows from a key."""

    def __init__(self, key):
        """Starts at the first draw; `key` is an int64 tensor [2]."""
        # The parent's constructor would make a variable.
        self._key, self._draws = key, 0

    def next(self, ordered=True):
        """Returns the seed of the next draw, int64 [2]."""
        del ordered
        self._draws += 1
        return tf.random.fold_in(self._key, tf.constant(self._draws, tf.int64))
