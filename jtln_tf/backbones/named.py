"""What the registry knows of a backbone that has a name."""

import dataclasses
from collections.abc import Callable

import keras


@dataclasses.dataclass(frozen=True)
class NamedBackbone:
    """A backbone that is built by its name.

    Attributes:
        features: Maps scaled pixels [B, H, W, C] to features [B, D]. Receives the pixels, and whether to start from
            the ImageNet weights.
        scaling: Scaling of the pixels, a mode of `scale_pixels`; `none` if the backbone scales them itself.
        least_side: Smallest height and width.
        usual_side: Side of the images that its weights were trained on, if images of another size do not do.
        takes_gray: Whether it takes gray images; else they are repeated to three channels.
        has_imagenet_weights: Whether `features` can load ImageNet weights.
        check_imagenet_weights: Raises `InputError` if they cannot be had, before anything is loaded.
    """

    features: Callable[[keras.KerasTensor, bool], keras.KerasTensor]
    scaling: str
    least_side: int
    usual_side: int | None = None
    takes_gray: bool = False
    has_imagenet_weights: bool = False
    check_imagenet_weights: Callable[[], object] = lambda: None
