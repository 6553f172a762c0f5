"""The forward pass over the images of both domains."""

import contextlib
import dataclasses

import keras
import tensorflow as tf

from jtln_tf.backbones import has_domain_norms, images_at, images_of
from jtln_tf.methods.base import Outputs
from jtln_tf.network import outputs_model


class Forward:
    """Looks at the images of each domain through a network.

    One pass over the images of all domains is the fast way; BatchNormalization of each domain's own needs a pass each.
    """

    def __init__(self, network: keras.Model, layers: tuple[str, ...] = (), teacher: "Forward | None" = None):
        """Prepares the pass; `layers` are backbone layers whose outputs are wanted too, as those of a `teacher` are."""
        self._model, self._is_split = outputs_model(network, layers), has_domain_norms(network)
        self._teacher = teacher

    def __call__(
        self, images: dict[str, tf.Tensor], training: bool, *, step: tf.Tensor | None = None, view: int = 0
    ) -> dict[str, Outputs]:
        """Returns `Outputs`, in float32, of the images [B, H, W, C] of each domain.

        In training, random draws follow the `step`, an image's place in the batch, and the number of the `view` of it.
        The teacher draws nothing.
        """
        outputs = self._look_at_all(images, training, step, view)
        if self._teacher is None:
            return outputs
        teacher = self._teacher(images, training=False)
        return {side: dataclasses.replace(one, teacher=teacher[side]) for side, one in outputs.items()}

    def _look_at_all(self, images, training, step, view):
        place = (step, view) if training and step is not None else None
        # Images arrive as bytes, which takes a quarter of the time, over the memory of a GPU too.
        images = {side: tf.cast(pixels, tf.float32) for side, pixels in images.items()}
        if self._is_split or len(images) == 1:
            return {side: self._look(side, pixels, training, place) for side, pixels in images.items()}
        is_target = [tf.fill(tf.shape(pixels)[:1], side == "target") for side, pixels in images.items()]
        with images_of(tf.concat(is_target, axis=0)), _at(images, place):
            both = self._model(tf.concat(list(images.values()), axis=0), training=training)
        parts, first = {}, 0
        for side, pixels in images.items():
            last = first + tf.shape(pixels)[0]
            parts[side] = Outputs(**keras.tree.map_structure(lambda x, a=first, b=last: _float32(x[a:b]), both))
            first = last
        return parts

    def _look(self, side, pixels, training, place):
        with images_of(side), _at({side: pixels}, place):
            return Outputs(**keras.tree.map_structure(_float32, self._model(pixels, training=training)))


def _at(images, place):
    if place is None:
        return contextlib.nullcontext()
    step, view = place
    return images_at(step, {side: tf.shape(pixels)[0] for side, pixels in images.items()}, view)


def _float32(tensor):
    return tf.cast(tensor, tf.float32)
