"""Problems of one shape and their gradients: the solver is compiled anew for any other, longer than most tests take."""

import numpy as np
import tensorflow as tf

from jtln_tf.ot import sinkhorn

# The costs have range 1: the kernel in float32, in float64, and log-sum-exp, with seams at 1 / 60 and 1 / 600.
FORMS = (0.1, 0.005, 0.001)


def draw_cost(n, m, seed=0):
    cost = np.random.default_rng(seed).uniform(size=(n, m))
    return (cost - cost.min()) / np.ptp(cost)


def draw_problems(spread=(0.1, 8.0, 2.0, 2.0), n=6, m=5, seed=0):
    """Logits [B, n], [B, m], flat to peaked, and costs [n, m]; rounded, so that both types have the same problems."""
    rng = np.random.default_rng(seed)
    logits = [np.reshape(spread, (-1, 1)) * rng.normal(size=(len(spread), size)) for size in (n, m)]
    return [np.float32(x) for x in (*logits, draw_cost(n, m, seed))]


def gradients(names, a, b, cost, epsilon, weights=1.0, solve=sinkhorn, **options):
    """The solution, and for each cost that is named the gradients in a, b, costs and epsilon of its weighted sum."""
    inputs = [tf.convert_to_tensor(x) for x in (a, b, cost, np.asarray(epsilon, np.asarray(cost).dtype))]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        output = solve(*inputs, **options)
        losses = [tf.reduce_sum(tf.cast(weights, output.f.dtype) * getattr(output, name)) for name in names]
    return output, *([gradient.numpy() for gradient in tape.gradient(loss, inputs)] for loss in losses)
