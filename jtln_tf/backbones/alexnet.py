"""AlexNet as in Caffe's model zoo: two groups, local response normalization, BGR input minus the mean.

Reference:
    Krizhevsky, Sutskever, Hinton, 2012, "ImageNet classification with deep convolutional neural networks".
"""

import functools

import keras
import tensorflow as tf

from jtln_tf.backbones.named import NamedBackbone


@keras.saving.register_keras_serializable(package="jtln_tf")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each value by the energy of its neighbouring channels (section 3.3 of the paper).

    `y[c] = x[c] / (1 + alpha * sum(x[c - 2 : c + 3] ** 2)) ** 0.75`. Caffe divides its alpha by the window, so its
    alpha = 1e-4 with local_size = 5 is alpha = 2e-5 here.
    """

    def call(self, inputs):
        """Normalizes maps [B, H, W, C]."""
        # Squares of activations may exceed the largest float16 number.
        maps = tf.cast(inputs, tf.float32)
        normalized = tf.nn.local_response_normalization(maps, depth_radius=2, bias=1.0, alpha=2e-5, beta=0.75)
        return tf.cast(normalized, inputs.dtype)


def alexnet_features(pixels: keras.KerasTensor, imagenet: bool = False) -> keras.KerasTensor:
    """Maps BGR images [B, H, W, 3] minus the ImageNet mean to the features [B, 4096] behind AlexNet's layer `drop7`."""
    del imagenet  # keras has no weights of it.
    options = {"activation": "relu", "kernel_initializer": "he_normal"}
    convolution = functools.partial(keras.layers.Conv2D, padding="same", **options)
    x = convolution(96, 11, strides=4, padding="valid", name="conv1")(pixels)
    x = LocalResponseNormalization(name="norm1")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="pool1")(x)
    x = convolution(256, 5, groups=2, name="conv2")(x)
    x = LocalResponseNormalization(name="norm2")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="pool2")(x)
    x = convolution(384, 3, name="conv3")(x)
    x = convolution(384, 3, groups=2, name="conv4")(x)
    x = convolution(256, 3, groups=2, name="conv5")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="pool5")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for number in (6, 7):
        x = keras.layers.Dense(4096, **options, name=f"fc{number}")(x)
        x = keras.layers.Dropout(0.5, name=f"drop{number}")(x)
    return x


# Below 67 pixels the last pooling has no 3x3 window left: 67 -> conv1 15 -> pool1 7 -> pool2 3 -> pool5 1.
ALEXNET = NamedBackbone(alexnet_features, scaling="caffe", least_side=67, usual_side=227)
