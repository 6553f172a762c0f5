import keras
import numpy as np
import pytest

import jtln_tf as jt
from jtln_tf.config import TrainingConfig
from jtln_tf.methods import METHODS, Stage
from jtln_tf.trainer.nan_search import find_broken_part
from jtln_tf.trainer.stages import compile_for_stage
from tests.trainer.conftest import SHAPE, make_batch


def make_model(spoil):
    image = keras.Input(SHAPE)
    x = keras.layers.Dense(6, name="sound")(keras.layers.Flatten()(image))
    x = keras.layers.Activation("exponential", name="growing")(x) if spoil == "layer" else x
    network = jt.build_network(keras.Model(image, x), 3, 2, image_shape=SHAPE)
    if spoil == "layer":
        network.get_layer("backbone").get_layer("sound").bias.assign(np.full(6, 1e3))
    elif spoil == "weights":
        network.trainable_variables[0].assign(np.full(network.trainable_variables[0].shape, np.inf))
    model = jt.JointModel(network, method=METHODS["joint"]())
    compile_for_stage(model, TrainingConfig(), Stage("joint", 9, ("source", "target")))
    return model


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        ("layer", "the output of layer 'backbone/growing' for the source images"),
        ("weights", "the weights 'sound/kernel'"),
        ("", "the update of the weights, though loss and gradients are finite"),
    ],
)
def test_the_first_part_that_is_not_finite_is_named(spoil, found):
    assert find_broken_part(make_model(spoil), make_batch()) == found
