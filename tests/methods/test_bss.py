"""BSS against NumPy's singular value decomposition, in float64."""

import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.config import DataConfig, InputError
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.methods.bss import BSS, smallest_singular_values
from tests.methods.conftest import make_moment, make_outputs


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
@pytest.mark.parametrize("count", [1, 3])
def test_the_smallest_singular_values_and_their_gradient(shape, count):
    # Features of a network: not negative, and of one size, so that one singular value is far above the others.
    features = np.random.default_rng(1).uniform(0, 1, shape) + 5
    left, values, right = np.linalg.svd(features.astype(np.float32).astype(np.float64), full_matrices=False)
    variable = tf.Variable(features, dtype=tf.float32)
    with tf.GradientTape() as tape:
        found = tf.function(smallest_singular_values)(variable, count)
    # float32 features near 5, whose rounding is 5e-7, against singular values of .1 to 1.
    assert float(found) == pytest.approx((values[-count:] ** 2).sum(), rel=1e-4)
    slope = 2 * (left[:, -count:] * values[-count:]) @ right[-count:]
    np.testing.assert_allclose(tape.gradient(found, variable), slope, atol=1e-4)


def test_equal_singular_values_have_a_finite_gradient():
    variable = tf.Variable(np.eye(3, 4), dtype=tf.float32)
    with tf.GradientTape() as tape:
        found = smallest_singular_values(variable, 2)
    assert float(found) == pytest.approx(2) and np.isfinite(tape.gradient(found, variable)).all()


def test_only_the_target_stage_is_penalized_and_a_batch_must_have_that_many_values():
    one, method = make_outputs(np.random.default_rng(2)), BSS(bss_weight=0.25, bss_count=2)
    terms = method.losses({"target": tf.constant([0, 1, 2, 0, 1])}, {"target": one}, make_moment())
    values = np.linalg.svd(np.asarray(one.features, np.float64), compute_uv=False)
    assert float(terms["spectral_loss"].values) == pytest.approx((values[-2:] ** 2).sum(), rel=1e-4)
    assert terms["spectral_loss"].weight == 0.25
    assert set(method.losses({"source": tf.constant([0] * 5)}, {"source": one}, make_moment())) == {"source_loss"}
    with pytest.raises(InputError, match="`bss_count` must be at most `target_batch`, 8. Received: 9"):
        ExperimentConfig(data=DataConfig(target_batch=8), method=BSS(bss_count=9))
