"""StochNorm against NumPy, in float64."""

import numpy as np
import tensorflow as tf

from jtln_tf.backbones import StochasticNormalization, images_at
from jtln_tf.methods.stochnorm import StochNorm
from jtln_tf.network import features_model
from tests.methods.conftest import make_moment, make_network


def make_norm(stage, **options):
    """Returns the normalization of a network that a stage of StochNorm has begun, with statistics of its own."""
    network, method = make_network(), StochNorm(**options)
    state = method.make_state(network)
    method.begin_stage(method.stages(8)[stage], make_moment(network, state))
    norm, rng = features_model(network).get_layer("norm"), np.random.default_rng(3)
    norm.set_weights([rng.uniform(0.5, 2, 5) for _ in range(4)])
    return norm, norm.get_weights()


def normalize(norm, images, step):
    with images_at(tf.constant(step), {"target": tf.constant(len(images))}):
        return norm(tf.constant(images, tf.float32), training=True).numpy()


def test_each_channel_takes_one_of_the_statistics_anew_in_each_step():
    images, chosen = np.random.default_rng(4).normal(2, 3, (6, 3, 3, 5)), []
    mean, variance = images.mean((0, 1, 2)), images.var((0, 1, 2))
    norm, weights = make_norm(1)
    gamma, beta, moving_mean, moving_variance = weights
    by_batch, by_moving = (
        gamma * (images - center) / np.sqrt(spread + norm.epsilon) + beta
        for center, spread in ((mean, variance), (moving_mean, moving_variance))
    )
    for step in range(8):
        norm.set_weights(weights)
        found = normalize(norm, images, step)
        is_batch, is_moving = (np.isclose(found, one, atol=1e-4).all((0, 1, 2)) for one in (by_batch, by_moving))
        assert (is_batch != is_moving).all()
        chosen.append(is_batch)
        # The momentum of the layer is .8.
        np.testing.assert_allclose(norm.moving_mean, 0.8 * moving_mean + 0.2 * mean, rtol=1e-4)
    # 40 throws of a coin.
    assert 8 <= np.sum(chosen) <= 32 and len({tuple(row) for row in chosen}) > 2


def test_the_source_stage_has_plain_batchnorm_and_a_step_draws_the_same_again():
    images = np.random.default_rng(5).normal(2, 3, (6, 3, 3, 5))
    norm, weights = make_norm(0)
    assert type(norm) is StochasticNormalization
    mixed = normalize(norm, images, 7)
    norm.set_weights(weights)
    np.testing.assert_allclose(mixed, norm(images, training=True), atol=1e-6)
    (one, _), (other, _) = make_norm(1), make_norm(1)
    np.testing.assert_array_equal(normalize(one, images, 7), normalize(other, images, 7))
    always_moving, weights = make_norm(1, stochnorm_probability=0.0)
    np.testing.assert_allclose(
        normalize(always_moving, images, 7), make_norm(1)[0](images, training=False), rtol=1e-5, atol=1e-5
    )
