import re

import numpy as np
import pytest
import tensorflow as tf

from jtln_tf.ot import plans, scaling
from jtln_tf.ot.problem import Problem
from jtln_tf.ot.products import matmul

MASSES, COSTS = tf.fill([4, 3], 1 / 3), tf.constant(np.arange(9.0).reshape(3, 3) / 9, tf.float32)
PROBLEM = Problem(MASSES, MASSES, tf.math.log(MASSES), tf.math.log(MASSES), COSTS, tf.constant(0.1), None, None)
CALLS = {
    "scaling": (scaling.iterate, (PROBLEM, MASSES, tf.constant(1e-4), tf.constant(9))),
    "costs": (plans._costs_by_products, (PROBLEM, MASSES, MASSES)),
    "plans": (plans._plans_by_product, (PROBLEM, MASSES, MASSES, MASSES[:, 0])),
}


@pytest.mark.parametrize("name", CALLS)
def test_xla_is_told_to_round_no_factor_of_a_product(name):
    function, arguments = CALLS[name]
    compiled = function.experimental_get_compiler_ir(*arguments)(stage="hlo")
    products = re.findall(r" dot\(.*", compiled)
    # XLA takes TF32 on a GPU for a product of float32 that does not say this (GemmRewriter, IsTf32Allowed).
    assert products and all("operand_precision={highest,highest}" in line for line in products)


def test_products_of_transposed_matrices():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)
    both = tf.function(lambda a, b: (matmul(a, b, transpose_b=True), matmul(a, b, transpose_a=True)), jit_compile=True)
    for product, expected in zip(both(a, b), (a @ b.T, a.T @ b), strict=True):
        np.testing.assert_allclose(product, expected, rtol=1e-5, atol=1e-5)
