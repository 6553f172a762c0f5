"""BatchNormalization that sees two domains: oracles are NumPy float64 statistics of the batches."""

import keras
import numpy as np
import pytest

from jtln_tf.backbones import has_domain_norms, images_of
from jtln_tf.backbones.batch_norm import set_batchnorm_policy
from jtln_tf.config import SIDES, InputError
from tests.backbones.trunks import Scaled

SHAPE = (6, 6, 1)
RNG = np.random.default_rng(0)
SOURCE = RNG.uniform(0, 100, (8, *SHAPE)).astype("float32")
TARGET = RNG.uniform(150, 255, (4, *SHAPE)).astype("float32")
EPSILON, MOMENTUM = 1e-3, 0.9


def norm_backbone():
    """Pixels, normalized and pooled: the features tell the statistics that were used."""
    image = keras.Input(SHAPE, name="image")
    x = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name="norm")(image)
    return keras.Model(image, keras.layers.Flatten(name="flatten")(x), name="backbone")


def normalized(images, by):
    images, by = images.astype(np.float64), by.astype(np.float64)
    return ((images - by.mean()) / np.sqrt(by.var() + EPSILON)).reshape(len(images), -1)


def test_each_domain_has_statistics_of_its_own():
    original = norm_backbone()
    original.get_layer("norm").set_weights([np.full(1, value, "float32") for value in (2.0, 3.0, 4.0, 5.0)])
    backbone = set_batchnorm_policy(original, "per_domain")
    assert [layer.name for layer in backbone.layers] == [layer.name for layer in original.layers]
    for domain in SIDES:
        with images_of(domain):
            np.testing.assert_allclose(backbone(SOURCE), original(SOURCE), rtol=1e-6)
    backbone = set_batchnorm_policy(norm_backbone(), "per_domain")
    domains = list(zip(SIDES, (SOURCE, TARGET), strict=True))
    for domain, images in domains:
        with images_of(domain):
            # 0.9 ** 80 of the first statistics is left, 2e-4: of a mean of 0 and a variance of 1.
            for _ in range(80):
                outputs = backbone(images, training=True)
            np.testing.assert_allclose(outputs, normalized(images, images), rtol=1e-3, atol=1e-4)
    for domain, images in domains:
        with images_of(domain):
            np.testing.assert_allclose(backbone(images), normalized(images, images), atol=2e-3)
    # Outside of any domain, images are taken for target images.
    np.testing.assert_allclose(backbone(SOURCE), normalized(SOURCE, TARGET), rtol=1e-3, atol=2e-3)


def test_nested_models_are_reached():
    inner = norm_backbone()
    image = keras.Input(SHAPE, name="image")
    outer = keras.Model(image, keras.Model(inner.input, inner.output, name="inner")(image), name="backbone")
    # Scale and offset of each domain.
    assert len(set_batchnorm_policy(outer, "per_domain").trainable_variables) == 4
    assert set_batchnorm_policy(outer, "train") is outer and not has_domain_norms(outer)
    assert not set_batchnorm_policy(outer, "frozen").trainable_variables


class Block(keras.layers.Layer):
    """A layer that holds a BatchNormalization."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = keras.layers.BatchNormalization(name="inner_norm")

    def call(self, inputs, training=None):
        return self.norm(inputs, training=training)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Block(), "train or frozen for .* inside other layers. Received: .* 1 of 2, .*inner_norm"),
        (Scaled(np.array(2.0)), r"train or frozen for .*Received: 'per_domain' \(Object Scaled"),
    ],
)
def test_layers_that_cannot_be_replaced_are_frozen_or_refused(layer, message):
    image = keras.Input(SHAPE, name="image")
    x = keras.layers.BatchNormalization(name="norm")(layer(image))
    backbone = keras.Model(image, keras.layers.Flatten()(x), name="backbone")
    with pytest.raises(InputError, match=f"`batchnorm` must be {message}"):
        set_batchnorm_policy(backbone, "per_domain")
    assert set_batchnorm_policy(backbone, "frozen") is backbone and not backbone.trainable_variables
    np.testing.assert_array_equal(backbone(TARGET, training=True), backbone(TARGET, training=False))
