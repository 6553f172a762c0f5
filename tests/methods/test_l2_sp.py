"""L2-SP against its equation."""

import numpy as np
import pytest
import tensorflow as tf

import jtln_tf as jt
from jtln_tf.methods.base import Moment, Outputs
from jtln_tf.methods.l2_sp import L2SP


def test_l2_sp_pulls_the_backbone_to_its_start_and_the_target_head_to_zero():
    network = jt.build_network("small_cnn", 3, 2, image_shape=(8, 8, 1))
    method = L2SP(l2_sp_alpha=0.3, l2_sp_beta=0.2)
    state = method.make_state(network)
    now = Moment(tf.constant(0, tf.int64), network, state)
    method.begin_stage(method.stages(4)[1], now)
    before = [variable.numpy() for variable in network.get_layer("backbone").trainable_variables]
    for number, variable in enumerate(network.get_layer("backbone").trainable_variables):
        variable.assign_add(np.full(variable.shape, 0.01 * (number + 1)))
    head = network.get_layer("target_logits").get_weights()
    moved = sum(
        ((one.numpy().astype(float) - old) ** 2).sum()
        for one, old in zip(network.get_layer("backbone").trainable_variables, before, strict=True)
    )
    size = sum((array.astype(float) ** 2).sum() for array in head)
    given = {"target": Outputs(tf.zeros([3, 2]), tf.zeros([3, 3]), tf.zeros([3, 2]))}
    terms = method.losses({"target": tf.constant([0, 1, 0])}, given, now)
    for name, value, weight in (("starting_point_loss", moved / 2, 0.3), ("target_head_loss", size / 2, 0.2)):
        # float32 sums against float64.
        assert float(terms[name].values) == pytest.approx(value, rel=1e-4) and terms[name].weight == weight
    of_source = method.losses({"source": tf.constant([0, 1, 2])}, {"source": given["target"]}, now)
    assert "starting_point_loss" not in of_source
