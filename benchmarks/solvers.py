"""The solvers that are compared, each through the same call.

`prepare(a, b, cost_matrix, epsilon)` returns a function without arguments that solves, differentiates the mean of the
regularized cost in both marginals, waits for the result and returns `(f, g, n_iters)`. POT's solver has no such
gradient, so only its value is timed, in its favour. Both peers check the error every 10 iterations, their default.
"""

from benchmarks.problems import TOLERANCE

MAX_ITERATIONS = 2000
OURS = "jtln_tf"
# The package that each imports.
PACKAGES = {OURS: "tensorflow", "ott": "ott", "pot": "ot"}


def prepare_jtln(a, b, cost_matrix, epsilon):
    """This project with its defaults, compiled by XLA as JAX does."""
    import tensorflow as tf

    from jtln_tf import sinkhorn

    @tf.function(jit_compile=True)
    def value_and_gradient(a, b, cost_matrix):
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            output = sinkhorn(a, b, cost_matrix, epsilon, threshold=TOLERANCE, max_iterations=MAX_ITERATIONS)
            value = tf.reduce_mean(output.regularized_cost)
        return value, tape.gradient(value, [a, b]), output.f, output.g, output.n_iters

    inputs = [tf.constant(x) for x in (a, b, cost_matrix)]

    def solve():
        value, _, f, g, n_iters = value_and_gradient(*inputs)
        value.numpy()
        return f, g, n_iters

    return solve


def prepare_ott(a, b, cost_matrix, epsilon, lse_mode):
    """OTT-JAX: vmap over the marginals, the geometry shared; with or without its log domain."""
    import jax
    import jax.numpy as jnp
    from ott.geometry import geometry
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn

    solver = sinkhorn.Sinkhorn(threshold=TOLERANCE, max_iterations=MAX_ITERATIONS, lse_mode=lse_mode)

    def mean_cost(a, b, cost_matrix):
        geometry_ = geometry.Geometry(cost_matrix=cost_matrix, epsilon=epsilon)
        solve = jax.vmap(lambda a, b: solver(linear_problem.LinearProblem(geometry_, a=a, b=b)))
        output = solve(a, b)
        return jnp.mean(output.reg_ot_cost), (output.f, output.g, output.n_iters)

    value_and_gradient = jax.jit(jax.value_and_grad(mean_cost, argnums=(0, 1), has_aux=True))
    inputs = [jnp.asarray(x) for x in (a, b, cost_matrix)]

    def solve():
        (_, potentials), _ = jax.block_until_ready(value_and_gradient(*inputs))
        return potentials

    return solve


def prepare_pot(a, b, cost_matrix, epsilon, method):
    """POT's batched solver on PyTorch, the value alone, in the log domain or with the kernel."""
    import ot
    import torch

    a, b, cost_matrix = (torch.tensor(x) for x in (a, b, cost_matrix))
    costs = cost_matrix.expand(len(a), *cost_matrix.shape)
    # Its threshold is on the L2 norm, which is smaller than the L1 norm by at most the root of the number of classes. A
    # third of that factor made it reach the tolerance without going far below.
    threshold = TOLERANCE * 3 / cost_matrix.shape[0] ** 0.5

    def solve():
        result = ot.batch.solve_batch(
            costs, reg=epsilon, a=a, b=b, max_iter=MAX_ITERATIONS, tol=min(threshold, TOLERANCE), method=method
        )
        f, g = result.potentials
        if method == "sinkhorn":
            f, g = torch.log(f), torch.log(g)
        # It returns potentials in units of epsilon.
        return f * epsilon, g * epsilon, None

    return solve


SOLVERS = {
    OURS: prepare_jtln,
    "ott (log domain)": lambda *problem: prepare_ott(*problem, lse_mode=True),
    "ott (kernel)": lambda *problem: prepare_ott(*problem, lse_mode=False),
    "pot (log domain)": lambda *problem: prepare_pot(*problem, method="log_sinkhorn"),
    "pot (kernel)": lambda *problem: prepare_pot(*problem, method="sinkhorn"),
}
