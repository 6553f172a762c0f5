import keras
import numpy as np
import pytest

from jtln_tf.config import InputError
from jtln_tf.features.fingerprints import fingerprint_model
from jtln_tf.features.layers import layer_model


class Halves(keras.layers.Layer):
    """A layer with two outputs, whose configuration Keras cannot tell."""

    def __init__(self, at, **kwargs):
        super().__init__(**kwargs)
        self.at = at

    def call(self, inputs):
        return inputs[:, : int(self.at)], inputs[:, int(self.at) :]


def build_model(strides=1, has_halves=False):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    rows = keras.layers.Reshape((8, 8), name="rows")(image)
    x = keras.layers.Reshape((8, 8, 1), name="maps")(rows)
    if has_halves:
        x, _ = Halves(np.array(4), name="halves")(x)
    x = keras.layers.Conv2D(6, 3, strides, activation="relu", name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, keras.layers.Dense(4, name="dense")(x), name="small")


@pytest.mark.parametrize("has_halves", [False, True])
def test_fingerprint_follows_layers_and_weights(has_halves):
    model = build_model(has_halves=has_halves)
    before = fingerprint_model(model)
    assert fingerprint_model(model) == before == fingerprint_model(build_model(has_halves=has_halves))
    assert fingerprint_model(build_model(2, has_halves)) != before
    model.get_layer("dense").bias.assign([0.0, 0.0, 0.0, 1e-7])
    assert fingerprint_model(model) != before


def test_layers_by_name():
    model = build_model()
    images = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 1)).astype("float32")
    assert layer_model(model, "") is model
    maps = keras.Model(model.input, model.get_layer("conv").output)(images).numpy()
    for name in ("conv", "pool"):
        np.testing.assert_allclose(layer_model(model, name)(images), maps.mean(axis=(1, 2)), rtol=1e-5)
    assert layer_model(model, "conv").name == "small_conv"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("x", "a layer of the backbone, such as dense. Received: 'x'"),
        ("rows", r"a layer with features or feature maps. Received: 'rows' with the output shape \[None, 8, 8\]"),
        ("halves", "a layer with one output, such as dense. Received: 'halves'"),
    ],
)
def test_layers_that_do_not_fit(layer, message):
    with pytest.raises(InputError, match=f"`cost_layer` must name {message}"):
        layer_model(build_model(has_halves=True), layer)
