"""AlexNet as in Caffe's model zoo: two groups, local response normalization, BGR input minus the mean."""

import keras
import tensorflow as tf

from jtln_tf.backbones.named import NamedBackbone


@keras.saving.register_keras_serializable(package="jtln_tf")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each value by the energy of its neighbouring channels.

    `y[c] = x[c] / (bias + alpha * sum(x[c - r : c + r + 1] ** 2)) ** beta`. Caffe divides its alpha by the window, so
    its alpha = 1e-4 with local_size = 5 is depth_radius r = 2 and alpha = 2e-5 here.

    Args:
        depth_radius: Channels taken on either side.
        alpha: Weight of the sum of squares.
        beta: Exponent.
        bias: Added to the sum; keeps the divisor away from zero.

    Reference:
        Krizhevsky, Sutskever, Hinton, 2012, section 3.3.
    """

    def __init__(
        self, depth_radius: int = 2, alpha: float = 2e-5, beta: float = 0.75, bias: float = 1.0, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.depth_radius, self.alpha, self.beta, self.bias = depth_radius, alpha, beta, bias

    def call(self, inputs):
        """Normalizes maps [B, H, W, C]."""
        # Squares of activations may exceed the largest float16 number.
        normalized = tf.nn.local_response_normalization(
            tf.cast(inputs, tf.float32), self.depth_radius, self.bias, self.alpha, self.beta
        )
        return tf.cast(normalized, inputs.dtype)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the inputs."""
        return input_shape

    def get_config(self):
        """Returns the arguments, for saving."""
        names = ("depth_radius", "alpha", "beta", "bias")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def alexnet_features(pixels: keras.KerasTensor, imagenet: bool = False) -> keras.KerasTensor:
    """Maps images to the 4096 features of AlexNet's layer `fc7`.

    Layers: `conv1 norm1 pool1 conv2 norm2 pool2 conv3 conv4 conv5 pool5 fc6 drop6 fc7 drop7`.

    Pixels are BGR images [B, H, W, 3] minus the ImageNet mean. Features [B, 4096] are those after dropout of 0.5.

    Reference:
        Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012.
    """
    del imagenet  # keras has no weights of it.
    x = _convolution(pixels, "conv1", 96, 11, strides=4, padding="valid")
    x = LocalResponseNormalization(name="norm1")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="pool1")(x)
    x = _convolution(x, "conv2", 256, 5, groups=2)
    x = LocalResponseNormalization(name="norm2")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="pool2")(x)
    x = _convolution(x, "conv3", 384, 3)
    x = _convolution(x, "conv4", 384, 3, groups=2)
    x = _convolution(x, "conv5", 256, 3, groups=2)
    x = keras.layers.MaxPooling2D(3, 2, name="pool5")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for number in (6, 7):
        x = keras.layers.Dense(4096, activation="relu", kernel_initializer="he_normal", name=f"fc{number}")(x)
        x = keras.layers.Dropout(0.5, name=f"drop{number}")(x)
    return x


def _convolution(x, name, filters, kernel_size, *, strides=1, padding="same", groups=1):
    options = {"groups": groups, "activation": "relu", "kernel_initializer": "he_normal", "name": name}
    return keras.layers.Conv2D(filters, kernel_size, strides, padding, **options)(x)


# Below 67 pixels the last pooling has no 3x3 window left: 67 -> conv1 15 -> pool1 7 -> pool2 3 -> pool5 1.
ALEXNET = NamedBackbone(alexnet_features, scaling="caffe", least_side=67, usual_side=227)
