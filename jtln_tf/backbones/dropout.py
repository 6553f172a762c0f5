"""Dropout, and what else looks at the whole batch, in a network whose batches are shared by several replicas."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator

import keras
import tensorflow as tf

from jtln_tf.config import InputError

_place = contextvars.ContextVar("place", default=None)


@dataclasses.dataclass(frozen=True)
class _Place:
    """Of which step the images are, and how many images of each domain this replica looks at, in their order."""

    step: tf.Tensor
    view: int
    counts: dict[str, tf.Tensor]


@contextlib.contextmanager
def images_at(step: tf.Tensor, counts: dict[str, tf.Tensor], view: int = 0) -> Iterator[None]:
    """Tells layers called inside at which step they are, and what is in the batch.

    `counts` holds the number of images of each domain at hand, one domain after the other: an equal slice of the batch
    of all replicas. `view` tells a second look at the same images.
    """
    token = _place.set(_Place(step, view, counts))
    try:
        yield
    finally:
        _place.reset(token)


def current_step() -> tf.Tensor | None:
    """Returns the step that `images_at` was told, or None outside of it."""
    place = _place.get()
    return place and place.step


@keras.saving.register_keras_serializable(package="jtln_tf")
class Dropout(keras.layers.Dropout):
    """Dropout whose draws depend on the seed, the step and an image's place in the batch of all replicas."""

    def call(self, inputs, training=False):
        """Drops values [B, ...] in training."""
        place = _place.get()
        if place is None or not training or not self.rate:
            return super().call(inputs, training=training)
        shape = [1 if size == 1 else own for size, own in zip(self._noise(inputs), inputs.shape[1:], strict=True)]
        # The seed's own count of draws would be that of this replica.
        key = tf.stack([tf.cast(self.seed_generator.state.value[0], tf.int64), tf.cast(place.step, tf.int64)])
        draws = [
            _draw(tf.random.fold_in(key, _number(side, place.view)), count, shape)
            for side, count in place.counts.items()
        ]
        is_kept = tf.concat(draws, axis=0) >= self.rate
        return tf.where(is_kept, inputs / tf.cast(1.0 - self.rate, inputs.dtype), tf.zeros_like(inputs))

    def _noise(self, inputs):
        return self.noise_shape[1:] if self.noise_shape else inputs.shape[1:]


def key_dropouts(model: keras.Model) -> None:
    """Lets the Dropout layers of a model draw by step and place in the batch."""
    for layer in model._flatten_layers():
        if type(layer) is keras.layers.Dropout:
            # A layer cannot be exchanged in a model that is built, and the two differ in nothing but `call`.
            layer.__class__ = Dropout


def share_batches(model: keras.Model) -> None:
    """Prepares a network for several replicas: BatchNormalization looks at the batch of all of them.

    Raises:
        InputError: If a layer draws random numbers otherwise than by `Dropout`.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
        if getattr(layer, "seed_generator", None) is not None and not isinstance(layer, Dropout):
            raise InputError(
                "`strategy` must be one_device for a backbone that draws random numbers otherwise than by Dropout. "
                f"Received: layer {layer.name!r} of class {type(layer).__name__}."
            )


def _number(side, view):
    return tf.constant(2 * view + (side == "target"), tf.int64)


def _draw(key, count, shape):
    """Returns draws for the images of this replica, of draws for those of all replicas: [count, *shape]."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tf.random.stateless_uniform([count, *shape], key)
    whole = tf.random.stateless_uniform([count * context.num_replicas_in_sync, *shape], key)
    first = tf.cast(context.replica_id_in_sync_group, tf.int32) * count
    return whole[first : first + count]
