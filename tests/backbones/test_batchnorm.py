"""BatchNormalization that sees two domains: oracles are NumPy float64 statistics of the batches."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import jtln_tf as jt
from jtln_tf.backbones import build_backbone, has_domain_norms, images_of
from jtln_tf.backbones.batch_norm import set_batchnorm_policy
from jtln_tf.config import InputError
from jtln_tf.network import build_network, cut_network, domain_view
from jtln_tf.trainer import JointModel

SHAPE = (6, 6, 1)
RNG = np.random.default_rng(0)
SOURCE = RNG.uniform(0, 100, (8, *SHAPE)).astype("float32")
TARGET = RNG.uniform(150, 255, (4, *SHAPE)).astype("float32")
EPSILON, MOMENTUM = 1e-3, 0.9


def norm_backbone(momentum=MOMENTUM):
    """Pixels, normalized and pooled: the features tell the statistics that were used."""
    image = keras.Input(SHAPE, name="image")
    x = keras.layers.BatchNormalization(momentum=momentum, epsilon=EPSILON, name="norm")(image)
    return keras.Model(image, keras.layers.Flatten(name="flatten")(x), name="backbone")


def normalized(images, by):
    images, by = images.astype(np.float64), by.astype(np.float64)
    return ((images - by.mean()) / np.sqrt(by.var() + EPSILON)).reshape(len(images), -1)


def network_of(policy):
    keras.utils.set_random_seed(0)
    return build_network(set_batchnorm_policy(norm_backbone(), policy), 3, 2, image_shape=SHAPE)


def train(network, steps):
    labels = tf.zeros([8], tf.int32), tf.zeros([4], tf.int32)
    model = JointModel(network, transport_weight=0.0)
    # The statistics move in any case; the weights stay.
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    step = tf.function(model.train_step)
    for _ in range(steps):
        step({"source": (SOURCE, labels[0]), "target": (TARGET, labels[1])})


def moving_statistics(variables):
    return {variable.path: variable.numpy() for variable in variables if "moving" in variable.path}


def test_each_domain_is_normalized_by_itself():
    backbone = set_batchnorm_policy(norm_backbone(), "per_domain")
    for domain, images in (("source", SOURCE), ("target", TARGET)):
        with images_of(domain):
            np.testing.assert_allclose(
                backbone(images, training=True), normalized(images, images), rtol=1e-3, atol=1e-4
            )


def test_moving_statistics_are_those_of_the_domains():
    network = network_of("per_domain")
    train(network, 80)
    backbone = network.get_layer("backbone")
    for domain, images in (("source", SOURCE), ("target", TARGET)):
        with images_of(domain):
            # 0.9 ** 80 of the first values is left, 2e-4: of a mean of 0 and a variance of 1.
            np.testing.assert_allclose(backbone(images), normalized(images, images), atol=2e-3)
    assert not np.allclose(backbone(SOURCE), normalized(SOURCE, SOURCE), atol=0.5)


def test_one_batchnorm_mixes_both_domains():
    network = network_of("train")
    train(network, 80)
    both = np.concatenate([SOURCE, TARGET])
    np.testing.assert_allclose(network.get_layer("backbone")(both), normalized(both, both), atol=2e-3)


def test_a_frozen_one_stays_as_it_was():
    network = network_of("frozen")
    before = [variable.numpy() for variable in network.get_layer("backbone").variables]
    train(network, 3)
    for old, variable in zip(before, network.get_layer("backbone").variables, strict=True):
        np.testing.assert_array_equal(variable, old)
    assert not network.get_layer("backbone").trainable_variables


def test_the_source_head_is_evaluated_as_on_source_images():
    network = network_of("per_domain")
    train(network, 40)
    view = domain_view(network, "source")
    with images_of("source"):
        expected = network(SOURCE)
    np.testing.assert_allclose(view.predict(SOURCE, verbose=0)["source"], expected["source"], rtol=1e-4)
    # Both were traced apart, whichever came first.
    np.testing.assert_allclose(network.predict(SOURCE, verbose=0)["source"], network(SOURCE)["source"], rtol=1e-4)
    assert not np.allclose(network(SOURCE)["source"], expected["source"], rtol=1e-2)
    assert domain_view(network, "target") is network
    assert domain_view(network_of("train"), "source").name == "network"


def test_clones_begin_with_the_weights_and_names_of_the_original():
    backbone = norm_backbone()
    values = [np.full(1, value, "float32") for value in (2.0, 3.0, 4.0, 5.0)]
    backbone.get_layer("norm").set_weights(values)
    clone = set_batchnorm_policy(backbone, "per_domain")
    assert [layer.name for layer in clone.layers] == [layer.name for layer in backbone.layers]
    for domain in ("source", "target"):
        with images_of(domain):
            np.testing.assert_allclose(clone(SOURCE), backbone(SOURCE), rtol=1e-6)
        for found, value in zip(clone.get_layer("norm").norms[domain].get_weights(), values, strict=True):
            np.testing.assert_array_equal(found, value)


def test_real_backbones_take_every_policy():
    images = RNG.uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    plain = build_backbone("MobileNetV2", (32, 32, 3))
    last = plain.layers[-2].name
    trainable = {}
    for policy in ("train", "frozen", "per_domain"):
        backbone = build_backbone("MobileNetV2", (32, 32, 3), batchnorm=policy)
        assert has_domain_norms(backbone) == (policy == "per_domain")
        assert backbone(images).shape == plain(images).shape
        trainable[policy] = len(backbone.trainable_variables)
    norms = sum(isinstance(layer, keras.layers.BatchNormalization) for layer in plain.layers)
    assert trainable["frozen"] == trainable["train"] - 2 * norms
    assert trainable["per_domain"] == trainable["train"] + 2 * norms
    frozen = build_backbone("MobileNetV2", (32, 32, 3), batchnorm="per_domain", freeze_until=last)
    assert not frozen.trainable_variables


def test_nested_models_are_reached():
    inner = norm_backbone()
    image = keras.Input(SHAPE, name="image")
    outer = keras.Model(image, keras.Model(inner.input, inner.output, name="inner")(image), name="backbone")
    assert has_domain_norms(set_batchnorm_policy(outer, "per_domain"))
    assert not set_batchnorm_policy(outer, "frozen").trainable_variables


class Block(keras.layers.Layer):
    """A layer that holds a BatchNormalization."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = keras.layers.BatchNormalization(name="inner_norm")

    def call(self, inputs, training=None):
        return self.norm(inputs, training=training)


def block_backbone():
    image = keras.Input(SHAPE, name="image")
    x = keras.layers.BatchNormalization(name="norm")(Block(name="block")(image))
    return keras.Model(image, keras.layers.Flatten()(x), name="backbone")


def test_layers_inside_of_layers_are_frozen_too():
    backbone = set_batchnorm_policy(block_backbone(), "frozen")
    assert not backbone.trainable_variables
    np.testing.assert_array_equal(backbone(TARGET, training=True), backbone(TARGET, training=False))


def test_layers_inside_of_layers_cannot_be_of_each_domain():
    with pytest.raises(
        InputError, match="train or frozen for .*inside of other layers. Received: .* 1 of 2, .*inner_norm"
    ):
        set_batchnorm_policy(block_backbone(), "per_domain")


def test_a_backbone_without_any_is_taken_as_it_is():
    image = keras.Input(SHAPE, name="image")
    backbone = keras.Model(image, keras.layers.Flatten()(image), name="backbone")
    assert set_batchnorm_policy(backbone, "per_domain") is backbone


def test_a_cut_network_keeps_both_sets_of_statistics():
    network = network_of("per_domain")
    _, rest = cut_network(network, "image")
    train(rest, 60)
    with images_of("source"):
        np.testing.assert_allclose(network.get_layer("backbone")(SOURCE), normalized(SOURCE, SOURCE), atol=5e-3)


def test_an_export_takes_images_for_target_images(tmp_path):
    network = network_of("per_domain")
    train(network, 20)
    jt.export_network(network, tmp_path / "export", source_classes=list("abc"), target_classes=list("xy"))
    from jtln_tf.export import check_export

    assert check_export(network, tmp_path / "export", np.rint(TARGET)) < 1e-5


def test_an_unknown_policy_is_refused():
    with pytest.raises(InputError, match="`batchnorm` must be one of train, frozen, per_domain. Received: 'auto'"):
        build_backbone("small_cnn", SHAPE, batchnorm="auto")


def test_layers_that_do_not_tell_their_configuration_cannot_be_cloned():
    class Scaled(keras.layers.Layer):
        def __init__(self, factor, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def call(self, inputs):
            return inputs * float(self.factor)

    image = keras.Input((4, 4, 1))
    x = keras.layers.BatchNormalization()(Scaled(np.array(2.0))(image))
    backbone = keras.Model(image, keras.layers.Flatten()(x), name="backbone")
    assert set_batchnorm_policy(backbone, "frozen") is backbone
    with pytest.raises(
        InputError, match=r"`batchnorm` must be train or frozen .*Received: 'per_domain' \(Object Scaled"
    ):
        set_batchnorm_policy(backbone, "per_domain")
