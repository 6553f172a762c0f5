"""A small convolutional network for digits, letters and other small images, gray or RGB."""

import keras

from jtln_tf.backbones.named import NamedBackbone

# Blocks are added until the map is this small, so that the dense layer stays small at every image size.
_LARGEST_MAP = 4


def small_cnn_features(pixels: keras.KerasTensor, imagenet: bool = False) -> keras.KerasTensor:
    """Maps images to features: three or more blocks of convolution, ReLU and pooling, then a dense layer.

    The blocks have 32, 64, 64, ... filters. Three blocks serve images up to 32 pixels; each doubling adds one. There
    is no BatchNormalization: its statistics would mix the two domains of a batch, and on a CPU it doubles the time of
    a step. Pixels [B, H, W, C] are in -1..1, features [B, 128] are not negative.
    """
    del imagenet  # There are no published weights.
    x, block = pixels, 0
    while block < 3 or max(x.shape[1:3]) > _LARGEST_MAP:
        block += 1
        filters = 32 if block == 1 else 64
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{block}")(x)
        # "same" lets maps of a single pixel pass: 8x8 digits reach the third block as 2x2.
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"pool{block}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    return keras.layers.Dense(128, activation="relu", name="features")(x)


SMALL_CNN = NamedBackbone(small_cnn_features, scaling="-1_1", least_side=1, takes_gray=True)
