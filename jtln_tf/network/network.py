"""Builds the network that is trained and exported."""

import os
from collections.abc import Sequence

import keras

from jtln_tf.backbones import build_backbone, computing_in
from jtln_tf.config import SIDES, InputError, NetworkConfig
from jtln_tf.network.heads import build_head
from jtln_tf.network.neck import Neck

# Of the square map of a neck, whose covariance must be factorized.
_WIDEST = 4096
_BACKBONE_OPTIONS = ("weights", "pixel_range", "freeze_until", "batchnorm", "precision")


def build_network(
    backbone: str | os.PathLike | keras.Model | NetworkConfig,
    num_source_classes: int,
    num_target_classes: int,
    *,
    image_shape: Sequence[int],
    **options,
) -> keras.Model:
    """Builds the network that is trained and exported.

    `image -> backbone (-> neck) -> features -> (hidden layers) -> {source,target}_logits -> softmax {source,target}`.
    The two branches share nothing behind the features.

    Args:
        backbone: A name or path as in `NetworkConfig.backbone`, a ready `keras.Model` from images to features [B, D],
            or a `NetworkConfig` with all options.
        num_source_classes: Classes of the source head, n, at least 2.
        num_target_classes: Classes of the target head, m, at least 2.
        image_shape: `(height, width, channels)` of the images.
        **options: Fields of `NetworkConfig`, such as `weights`, `freeze_until` or `head_hidden_units`. A ready model
            takes only those of the heads.

    Returns:
        A functional `keras.Model` from `image` [B, H, W, C] in 0..255 to the probabilities
        `{"source": [B, n], "target": [B, m]}`, float32 under every precision policy.

    Raises:
        MissingInputError: If a file does not exist.
        InputError: If an argument does not fit.

    Examples:
        >>> import jtln_tf as jt
        >>> network = jt.build_network("small_cnn", 5, 3, image_shape=(28, 28, 1), head_dropout=0.2)
        >>> {side: output.shape for side, output in network.output.items()}
        {'source': (None, 5), 'target': (None, 3)}
    """
    config = _parse_options(backbone, options)
    if isinstance(backbone, keras.Model):
        backbone = _adopt_backbone(backbone, image_shape, config)
    else:
        backbone = build_backbone(config, image_shape)
    return add_heads(backbone, config, num_source_classes, num_target_classes)


def add_heads(
    backbone: keras.Model, config: NetworkConfig, num_source_classes: int, num_target_classes: int
) -> keras.Model:
    """Builds the network of a configuration on its ready backbone; raises what `build_network` does."""
    nums_classes = {"source": num_source_classes, "target": num_target_classes}
    for side, num_classes in nums_classes.items():
        if num_classes < 2:
            raise InputError(f"`num_{side}_classes` must be at least 2. Received: {num_classes}.")
    if config.has_neck:
        width = backbone.output.shape[-1]
        if width > _WIDEST:
            raise InputError(
                f"`neck` must be none for more than {_WIDEST} features. Received: {width}. Hint: --neck=none."
            )
        backbone = keras.Model(backbone.input, Neck(name="neck")(backbone.output), name="backbone")
    image = keras.Input(backbone.input.shape[1:], name="image")
    features = backbone(image)
    probabilities = {}
    for side in SIDES:
        with computing_in(config.precision):
            logits = build_head(features, side, nums_classes[side], config)
        probabilities[side] = keras.layers.Softmax(dtype="float32", name=side)(logits)
    return keras.Model(image, probabilities, name="network")


def _parse_options(backbone, options):
    if isinstance(backbone, NetworkConfig):
        if options:
            name, value = next(iter(options.items()))
            raise InputError(f"`{name}` must be a field of the `NetworkConfig`, not an argument. Received: {value!r}.")
        return backbone
    if not isinstance(backbone, keras.Model):
        options = {**options, "backbone": os.fspath(backbone)}
    return NetworkConfig.from_values(options)


def _adopt_backbone(backbone, image_shape, config):
    for name in _BACKBONE_OPTIONS:
        value = getattr(config, name)
        if value != getattr(NetworkConfig, name):
            raise InputError(f"`{name}` must not be given with a ready `backbone` model. Received: {value!r}.")
    # A subclassed model has neither.
    inputs, outputs = getattr(backbone, "inputs", None) or [], getattr(backbone, "outputs", None) or []
    if len(inputs) != 1 or len(outputs) != 1 or len(outputs[0].shape) != 2:
        raise InputError(
            "`backbone` must map one image input to features [B, D]. "
            f"Received: {backbone.name!r} with outputs {[list(x.shape) for x in outputs]}."
        )
    expected = inputs[0].shape[1:]
    given = [size if wanted else None for size, wanted in zip(image_shape, expected, strict=False)]
    if len(expected) != len(image_shape) or given != list(expected):
        raise InputError(
            f"`image_shape` must be the input {list(expected)} of the ready `backbone`. Received: {list(image_shape)}."
        )
    # The parts of a network are found by name, even after it was saved and loaded.
    return keras.Model(inputs[0], outputs[0], name="backbone")
