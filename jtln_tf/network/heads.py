"""The two heads: from the features of the backbone to the logits of the classes."""

import keras

from jtln_tf.backbones import Dropout
from jtln_tf.config import NetworkConfig
from jtln_tf.network.neck import CosineLogits

# Cosines lie in -1..1: at this scale a class can have nearly all of the probability, and cross-entropy still has slope.
_COSINE_SCALE = 16.0


def build_head(features: keras.KerasTensor, side: str, num_classes: int, config: NetworkConfig) -> keras.KerasTensor:
    """Builds a head from features [B, D] to logits [B, n]: dropout, `{side}_hidden1`, ..., and `{side}_logits`.

    Behind a neck the logits are cosines to class weights, else a linear map.
    """
    x = features
    if config.head_dropout:
        x = Dropout(config.head_dropout, name=f"{side}_dropout")(x)
    for number, units in enumerate(config.head_hidden_units, start=1):
        x = keras.layers.Dense(units, activation="relu", name=f"{side}_hidden{number}")(x)
    if config.has_neck:
        return CosineLogits(num_classes, _COSINE_SCALE, name=f"{side}_logits")(x)
    # float32 under mixed precision: the losses and the transport term start from the logits.
    return keras.layers.Dense(num_classes, dtype="float32", name=f"{side}_logits")(x)


def call_head(network: keras.Model, side: str, features: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the logits [B, n] of a network's head for other features [B, D]."""
    for layer in head_layers(network, side):
        features = layer(features)
    return features


def head_layers(network: keras.Model, side: str) -> list[keras.Layer]:
    """Returns the layers of a network's head from the features to the logits, in order."""
    return [layer for layer in network.layers if layer.name.startswith(f"{side}_")]
