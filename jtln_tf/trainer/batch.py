"""A batch of both domains, checked when a step is traced."""

import dataclasses

import keras
import tensorflow as tf

from jtln_tf.config import SIDES, InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Images and labels of the domains in a batch.

    Attributes:
        images: Images [B, H, W, C] in 0..255 (or activations of a cached trunk) by domain.
        labels: int32 class indices [B] or float32 class probabilities [B, classes] by domain.
        second_images: A second augmented view of the images by domain; empty unless asked for.
    """

    images: dict[str, tf.Tensor]
    labels: dict[str, tf.Tensor]
    second_images: dict[str, tf.Tensor]


def read_batch(data: dict, network: keras.Model, has_second_view: bool = False) -> Batch:
    """Checks what `fit` was given for one step and brings labels to one form.

    `data` is a dict with the keys `source` and `target`, or one of them, each (images, labels), or (images, labels,
    second images). Labels are class indices [B] or [B, 1] of any whole-numbered values, or probabilities [B, classes].
    Raises `InputError` if a key is unknown, or labels do not fit the heads of the network.
    """
    if not isinstance(data, dict) or not data or set(data) - set(SIDES):
        keys = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise InputError(f"A batch must be a dict with the keys source and target, or one of them. Received: {keys}.")
    length = 3 if has_second_view else 2
    for side, parts in data.items():
        if not isinstance(parts, tuple | list) or len(parts) != length:
            wanted = "(images, labels, second images)" if has_second_view else "(images, labels)"
            received = len(parts) if isinstance(parts, tuple | list) else type(parts).__name__
            raise InputError(f"The {side} part of a batch must be {wanted}. Received: {received}.")
    # In one order, whatever the order of the keys.
    sides = [side for side in SIDES if side in data]
    return Batch(
        {side: data[side][0] for side in sides},
        {side: _read_labels(data[side][1], side, network.output[side].shape[-1]) for side in sides},
        {side: data[side][2] for side in sides if has_second_view},
    )


def _read_labels(labels, side, num_classes):
    shape = labels.shape
    if shape.rank == 2 and shape[1] == 1:
        labels = tf.squeeze(labels, 1)
    if labels.shape.rank == 1:
        return _read_indices(labels)
    if labels.shape.rank != 2 or labels.shape[1] not in (None, num_classes):
        raise InputError(
            f"Labels of the {side} must be class indices [B] or probabilities [B, {num_classes}]. "
            f"Received: shape {shape.as_list()}."
        )
    return tf.cast(labels, tf.float32)


def _read_indices(labels):
    if labels.dtype.is_integer:
        return tf.cast(labels, tf.int32)
    if not labels.dtype.is_floating:
        raise InputError(f"Labels must be whole numbers. Received: {labels.dtype.name}.")
    indices = tf.cast(labels, tf.int32)
    check = tf.debugging.Assert(
        tf.reduce_all(tf.cast(indices, labels.dtype) == labels), ["Labels must be whole numbers. Received:", labels]
    )
    with tf.control_dependencies([check]):
        return tf.identity(indices)
