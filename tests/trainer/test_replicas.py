"""Two mirrored CPUs against one replica, on the same global batches."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import jtln_tf as jt
from jtln_tf.backbones import share_batches
from jtln_tf.costs.config import CostConfig
from jtln_tf.methods import METHODS
from tests.trainer.conftest import make_costs, make_network, make_pairs, values_of

STEPS = 8
# Both heads and both domains; the solver's own error is far below the tolerance.
TRANSPORT = {"transport_gradient": "both", "transport_images": "both", "sinkhorn_threshold": 1e-6}


def train(strategy, method, *, backbone_optimizer=False, clip_norm=0.0, cost=None, network=None):
    with strategy.scope():
        network = make_network(**(network or {}))
        if strategy.num_replicas_in_sync > 1:
            share_batches(network)
        costs = make_costs() if method.uses_costs else None
        model = jt.JointModel(network, method=method, cost_matrix=costs, cost=cost)
        rates = {"backbone_optimizer": keras.optimizers.SGD(0.02)} if backbone_optimizer else {}
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), clip_norm=clip_norm, **rates)
    model.begin_stage(method.stages(STEPS)[-1])
    history = model.fit(make_pairs(source=8, target=4), steps_per_epoch=STEPS, verbose=0).history
    evaluated = model.evaluate(make_pairs(source=8, target=4).take(1), return_dict=True, verbose=0)
    assert int(model.steps_seen) == STEPS
    means = []
    if cost is not None:
        means = [means.numpy() for means in model.method_state.class_means.values()]
    return {name: value[0] for name, value in history.items()} | evaluated, values_of(network.variables), means


@pytest.mark.parametrize(
    ("name", "options", "training"),
    [
        ("jtln", TRANSPORT, {"cost": CostConfig(matrix="online", refresh_steps=3)}),
        ("joint", {"source_weight": 0.7}, {"clip_norm": 0.3, "backbone_optimizer": True}),
        ("l2_sp", {"l2_sp_alpha": 0.5}, {"clip_norm": 0.3}),
        # What looks at the whole batch: statistics, draws by place, singular values.
        ("joint", {}, {"network": {"has_norm": True, "head_dropout": 0.4}}),
        ("stochnorm", {}, {"network": {"has_norm": True}}),
        ("bss", {"bss_weight": 0.1, "bss_count": 2}, {}),
    ],
)
def test_two_replicas_train_as_one(two_cpus, name, options, training):
    method = METHODS[name](**options)
    one = train(tf.distribute.get_strategy(), method, **training)
    two = train(two_cpus, method, **training)
    assert one[0].keys() == two[0].keys()
    for term, value in one[0].items():
        # float32 sums in another order; an image near the threshold may be solved an iteration later.
        size = 0.5 if term == "sinkhorn_iterations" else 1e-5
        assert two[0][term] == pytest.approx(value, rel=1e-4, abs=size), term
    for ours, theirs in zip(one[1] + one[2], two[1] + two[2], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


def test_a_term_that_is_not_finite_on_one_replica_is_noted(two_cpus):
    with two_cpus.scope():
        model = jt.JointModel(make_network(), method=METHODS["target_only"]())
        model.compile(keras.optimizers.SGD(0.0))
    model.fit(make_pairs(("target",), target=4), steps_per_epoch=2, verbose=0)
    assert model.health.broken_terms() == (0, [])
    # The second half of the batch goes to the second replica.
    half = tf.constant([[0.0], [0.0], [np.nan], [np.nan]])
    pairs = make_pairs(("target",), target=4).map(
        lambda pair: {"target": (pair["target"][0], tf.one_hot(pair["target"][1], 2) + half)}
    )
    model.fit(pairs, steps_per_epoch=2, verbose=0)
    assert model.health.broken_terms() == (3, ["loss", "target_loss"])
