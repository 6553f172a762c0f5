import keras
import numpy as np
import pytest

from jtln_tf.backbones import images_of
from jtln_tf.config import InputError
from jtln_tf.network import (
    build_network,
    copy_network,
    cut_network,
    describe_layers,
    features_model,
    head_variables,
    outputs_model,
)
from tests.backbones.trunks import Scaled
from tests.network.networks import IMAGES, build_residual


def check_same(actual, expected):
    for side in ("source", "target"):
        np.testing.assert_allclose(actual[side], expected[side], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", ["image", "add", "pool", "all"])
def test_the_two_parts_are_the_network(layer):
    network = build_residual()
    trunk, rest = cut_network(network, layer)
    check_same(rest(trunk(IMAGES)), network(IMAGES))
    check_same(outputs_model(rest)(trunk(IMAGES)), outputs_model(network)(IMAGES))
    shared = {id(variable) for variable in network.variables}
    assert {id(variable) for variable in (*trunk.variables, *rest.variables)} == shared


def test_both_parts_of_a_cut_network_share_its_statistics():
    network = build_residual("per_domain")
    trunk, rest = cut_network(network, "conv")
    with images_of("source"):
        rest(trunk(IMAGES), training=True)
        expected = network(IMAGES)
        check_same(rest(trunk(IMAGES)), expected)
    assert not np.allclose(network(IMAGES)["source"], expected["source"], rtol=1e-3)
    assert len(head_variables(rest)) == len(head_variables(network))


def test_a_cut_through_a_shortcut_is_refused_and_others_named():
    with pytest.raises(InputError, match="`freeze_until` must name a layer .* such as norm, add, conv. Received"):
        cut_network(build_residual(), "inside")
    with pytest.raises(InputError, match="`freeze_until` must name a layer of the backbone, such as .*'conv9'"):
        cut_network(build_residual(), "conv9")


def build_shared():
    """A network whose backbone could be cut behind the first call of a layer, but not behind its last."""
    image, twice = keras.Input((12, 12, 1)), keras.layers.Conv2D(1, 3, padding="same", name="twice")
    once = twice(image)
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([twice(once), once]))
    return build_network(keras.Model(image, features), 5, 3, image_shape=(12, 12, 1))


@pytest.mark.parametrize("build", [build_residual, build_shared])
def test_layers_are_described_with_the_cuts_that_are_possible(build):
    network = build()
    layers = describe_layers(features_model(network))
    assert [layer["name"] for layer in layers] == [layer.name for layer in features_model(network).layers]
    assert sum(layer["num_weights"] for layer in layers) == features_model(network).count_params()
    assert len({layer["can_cut"] for layer in layers}) == 2
    for layer in layers:
        if layer["can_cut"]:
            trunk, _ = cut_network(network, layer["name"])
            assert list(trunk.output.shape[1:]) == layer["output_shape"]
        else:
            with pytest.raises(InputError, match="whose output is all that"):
                cut_network(network, layer["name"])


@pytest.mark.parametrize("batchnorm", ["train", "per_domain"])
def test_a_copy_stays_while_the_network_goes_on(batchnorm):
    network = build_residual(batchnorm)
    expected = {side: value.numpy() for side, value in network(IMAGES).items()}
    copy = copy_network(network)
    assert copy.trainable_variables == [] and network.trainable_variables
    for variable in network.trainable_variables:
        variable.assign(variable * 0.5 + 0.1)
    assert not np.allclose(network(IMAGES)["source"], expected["source"])
    check_same(copy(IMAGES, training=True), expected)
    trunk, rest = cut_network(network, "norm")
    check_same(copy_network(rest)(trunk(IMAGES)), network(IMAGES))


def test_layers_that_do_not_return_their_configuration_cannot_be_copied():
    image = keras.Input((4, 4, 1))
    ready = keras.Model(image, keras.layers.Flatten()(Scaled(np.array(2.0))(image)))
    network = build_network(ready, 3, 2, image_shape=(4, 4, 1))
    with pytest.raises(InputError, match="layers that return their configuration to be copied. Received: "):
        copy_network(network)
