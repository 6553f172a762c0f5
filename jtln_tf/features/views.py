"""Views of images: which of them are looked at, and how they are augmented."""

import dataclasses
import json

import numpy as np
import tensorflow as tf

from jtln_tf.batches import augment_images
from jtln_tf.config import AugmentationSpec, parse_augmentation
from jtln_tf.data.reading.split import Split


@dataclasses.dataclass(frozen=True)
class ViewAugmentation:
    """Augments batches of images by a policy, without its mixup; the views depend on the step and the seed alone."""

    policy: AugmentationSpec
    seed: int

    def __call__(self, images: tf.Tensor, step: int) -> tf.Tensor:
        """Returns augmented images [B, H, W, C] in 0..255; each step draws anew."""
        return augment_images(images, seed=self.seed, step=step, policy=self.policy)

    @property
    def key(self) -> str:
        """A text that differs for other views."""
        return json.dumps({"seed": self.seed, "policy": self.policy.text})


def choose_augmentation(
    split: Split, policy: str | AugmentationSpec, seed: int, option: str = "policy"
) -> ViewAugmentation | None:
    """Returns the augmentation of a split's images, or None if it holds no images or the policy changes none."""
    policy = parse_augmentation(policy, option)
    return ViewAugmentation(policy, seed) if policy.operations and split.holds_images else None


def choose_views(labels: np.ndarray, views_per_class: int, *, fill: bool, kept_views: int = 1) -> np.ndarray:
    """Returns positions in a split's images of the same number of views of each class, class after class.

    A class with more images gives its first ones, so that repeated calls see the same images. A class with fewer gives
    their further views too, if `kept_views` of each image are in the split, one after the other. If it then still has
    too few it repeats them if `fill`, which helps only if they are augmented; else it gives each once.
    """
    rows = [np.empty(0, np.int64)]
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        own = np.concatenate([own + view * len(labels) for view in range(kept_views)])
        rows.append(np.resize(own, views_per_class) if fill else own[:views_per_class])
    return np.concatenate(rows)
