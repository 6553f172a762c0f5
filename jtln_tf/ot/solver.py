"""Entropic optimal transport of many pairs of marginals under one cost matrix.

Each problem b has the plan `P = exp((f_i + g_j - C_ij) / epsilon)`. Because the cost is shared, an update of all
problems is one matrix product [B, m] x [m, n], and no [B, n, m] tensor exists unless the plan is asked for.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from jtln_tf.ot.costs import regularized_cost, transport_cost
from jtln_tf.ot.potentials import find_potentials
from jtln_tf.ot.problem import Problem

_EPSILON, _THRESHOLD, _MAX_ITERATIONS = 0.05, 1e-4, 2000
# Rounding to bfloat16 changes a mass by 0.4 % at most.
_ROUNDED_MASSES = 0.01
# Stands for the logarithm of zero.
_LEAST_LOG_MASS = -1e9


@dataclasses.dataclass(frozen=True, eq=False)
class SinkhornOutput:
    """Solution of B problems.

    Attributes:
        f: Row potentials [B, n], in units of cost, held fixed; without penalties defined up to `(f + c, g - c)`. In
            float32 they are rounded, which moves the plan by about 1e-7 of `f / epsilon`.
        g: Column potentials [B, m].
        regularized_cost: `<P, C> - epsilon H(P)` with `H(P) = -sum P log P`, [B], plus any penalties; may be negative.
            Its gradient in the marginals is `(f, g)`, with a penalty `tau (1 - exp(-f / tau))`; in the costs it is P.
            There is no second gradient.
        marginal_error: Upper bound of the L1 distance between the marginals of the plan and the wanted ones, [B]: one
            more update was made after it was measured.
        n_iters: Updates of both potentials, or Newton steps in their place, that each problem took, [B].
        converged: Whether `marginal_error` is at most the threshold and the cost is finite, [B].
        problem: The marginals, costs and penalties, as `Problem`.
    """

    f: tf.Tensor
    g: tf.Tensor
    regularized_cost: tf.Tensor
    marginal_error: tf.Tensor
    n_iters: tf.Tensor
    converged: tf.Tensor
    problem: Problem

    @property
    def transport_cost(self) -> tf.Tensor:
        """`<P, C>`, [B], computed when it is asked for.

        Its gradient takes a linear system for each problem (`plans.transport_gradients`) and is exact at convergence.
        """
        return transport_cost(self.problem, self.f, self.g)

    def plan(self) -> tf.Tensor:
        """Returns the couplings [B, n, m]; no gradient flows through them."""
        fixed = self.problem.detached()
        return tf.exp((self.f[:, :, None] + self.g[:, None, :] - fixed.cost_matrix) / fixed.epsilon)


def sinkhorn(
    a: tf.Tensor,
    b: tf.Tensor,
    cost_matrix: tf.Tensor,
    epsilon: float | tf.Tensor = _EPSILON,
    *,
    tau_a: float | tf.Tensor | None = None,
    tau_b: float | tf.Tensor | None = None,
    threshold: float = _THRESHOLD,
    max_iterations: int = _MAX_ITERATIONS,
    initial_potentials: tuple[tf.Tensor, tf.Tensor] | None = None,
) -> SinkhornOutput:
    """Solves B entropic optimal transport problems that share one cost matrix.

    `min_P <P, C> - epsilon H(P)` over `P >= 0` with row sums `a` and column sums `b`. Entries of zero mass are treated
    as the smallest positive number of the type, so that potentials and gradients stay finite. With `tau_a` the row sums
    are free, at the price `tau_a KL(row sums | a)`, and H(P) is `-sum P (log P - 1) - 1`; `tau_b` does so for columns.
    Without a penalty, `b` is scaled to the mass of `a` if they differ by less than 1 %, as half precision rounds them.

    The arithmetic follows the range of the costs over epsilon: float32 up to 60 (for float32 input), float64 up to 600,
    and above that float64 in the log domain, which is tested down to an epsilon of 1e-4 of the range.

    Examples:
        >>> import jtln_tf as jt
        >>> output = jt.sinkhorn([[0.5, 0.5]], [[0.25, 0.75]], [[0.0, 1.0], [1.0, 0.0]], epsilon=0.05)
        >>> output.plan().numpy().round(2).tolist(), bool(output.converged[0])
        ([[[0.25, 0.25], [0.0, 0.5]]], True)

    Args:
        a: Row marginals [B, n], each row sums to 1 (with a penalty, to any mass).
        b: Column marginals [B, m], each row sums to 1 (with a penalty, to any mass).
        cost_matrix: Costs [n, m]; infinity forbids a pair.
        epsilon: Entropic weight, positive, in units of cost: a number or a scalar tensor.
        tau_a: Weight of the penalty on the row marginals, positive, in units of cost; None or infinity keeps them
            fixed.
        tau_b: Weight of the penalty on the column marginals, likewise.
        threshold: L1 marginal error at which a problem is solved.
        max_iterations: Updates or Newton steps after which a problem is left as it is.
        initial_potentials: `(f, g)` to start from, [B, n] and [B, m], for example those of similar problems; only those
            of the smaller side are used. None starts from `epsilon log` of the marginals.

    Returns:
        `SinkhornOutput`. Gradients flow from `regularized_cost` and `transport_cost` to `a`, `b`, costs and epsilon.

    Raises:
        ValueError: If the shapes do not fit, a number is not positive, or a cost is NaN or minus infinity. In a graph
            tensors have no values yet: such a problem gives NaN there, and `converged` is False.

    Reference:
        Cuturi, 2013, arXiv:1306.0895, with epsilon = 1 / lambda; Peyre and Cuturi, 2019, arXiv:1803.00567, section 4.4;
        with penalties Chizat, Peyre, Schmitzer, Vialard, 2018, arXiv:1607.05816.
    """
    a, b = _as_float(a, "a"), _as_float(b, "b")
    cost_matrix = _as_type(cost_matrix, a.dtype, "cost_matrix")
    _check_shapes(a, b, cost_matrix)
    if tau_a is None and tau_b is None:
        b = _balance(a, b)
    smallest = np.finfo(a.dtype.as_numpy_dtype).tiny
    log_a, log_b = (tf.math.log(tf.maximum(mass, smallest)) for mass in (a, b))
    return _solve(a, b, log_a, log_b, cost_matrix, epsilon, tau_a, tau_b, threshold, max_iterations, initial_potentials)


def sinkhorn_from_logits(
    a_logits: tf.Tensor, b_logits: tf.Tensor, cost_matrix: tf.Tensor, epsilon: float | tf.Tensor = _EPSILON, **options
) -> SinkhornOutput:
    """Solves `sinkhorn` for `a = softmax(a_logits)`, `b = softmax(b_logits)`, even if the softmax underflows.

    Examples:
        >>> import jtln_tf as jt
        >>> output = jt.sinkhorn_from_logits([[1e4, 0.0]], [[0.0, 0.0, 0.0]], [[0.0, 0.5, 1.0], [1.0, 1.0, 1.0]])
        >>> round(float(output.transport_cost[0]), 3)
        0.5

    Args:
        a_logits: [B, n]; minus infinity is a mass of zero.
        b_logits: [B, m], likewise.
        cost_matrix: See `sinkhorn`.
        epsilon: See `sinkhorn`.
        **options: See `sinkhorn`.

    Returns:
        `SinkhornOutput`; gradients flow to the logits too.

    Raises:
        ValueError: See `sinkhorn`.
    """
    named = {"a_logits": a_logits, "b_logits": b_logits}
    log_a, log_b = (tf.nn.log_softmax(_as_float(logits, name)) for name, logits in named.items())
    log_a, log_b = (tf.maximum(log_mass, _LEAST_LOG_MASS) for log_mass in (log_a, log_b))
    return _solve(tf.exp(log_a), tf.exp(log_b), log_a, log_b, cost_matrix, epsilon, **options)


def _solve(
    a,
    b,
    log_a,
    log_b,
    cost_matrix,
    epsilon,
    tau_a=None,
    tau_b=None,
    threshold=_THRESHOLD,
    max_iterations=_MAX_ITERATIONS,
    initial_potentials=None,
):
    cost_matrix = _as_type(cost_matrix, a.dtype, "cost_matrix")
    _check_shapes(a, b, cost_matrix)
    _check_costs(cost_matrix)
    if a.shape[0] is None:
        at_least_one = tf.debugging.assert_positive(tf.shape(a)[0], "`a` must hold at least one problem.")
        with tf.control_dependencies([at_least_one]):
            a = tf.identity(a)
    tau_a, tau_b = (None if _is_infinite(tau) else tau for tau in (tau_a, tau_b))
    _check_numbers(epsilon=epsilon, tau_a=tau_a, tau_b=tau_b, threshold=threshold, max_iterations=max_iterations)
    epsilon, tau_a, tau_b = (None if x is None else _as_weight(x, a.dtype) for x in (epsilon, tau_a, tau_b))
    problem = Problem(a, b, log_a, log_b, cost_matrix, epsilon, tau_a, tau_b)
    fixed_epsilon = tf.stop_gradient(epsilon)
    start = [log_a, log_b]
    if initial_potentials is not None:
        given = [_as_type(x, a.dtype, "initial_potentials") / fixed_epsilon for x in initial_potentials]
        if not all(x.shape.is_compatible_with(y.shape) for x, y in zip(given, (a, b), strict=True)):
            expected, received = f"[B, n], [B, m] = {a.shape}, {b.shape}", ", ".join(str(x.shape) for x in given)
            raise ValueError(f"`initial_potentials` must have shapes {expected}. Received: {received}.")
        # Potentials of a mass of 0, or of a problem that was not solved, may be infinite.
        start = [tf.where(tf.math.is_finite(x), x, y) for x, y in zip(given, start, strict=True)]
    log_u, log_v, error, n_iters = find_potentials(problem, *start, threshold, max_iterations)
    f, g = log_u * fixed_epsilon, log_v * fixed_epsilon
    cost = regularized_cost(problem, f, g)
    is_posed = tf.reduce_all(a >= 0.0, axis=1) & tf.reduce_all(b >= 0.0, axis=1)
    converged = (error <= threshold) & tf.math.is_finite(cost) & is_posed
    return SinkhornOutput(f, g, cost, error, n_iters, converged, problem)


def _balance(a, b):
    """Returns `b` scaled to the mass of `a`, problem by problem, if rounding explains that they differ."""
    ratio = tf.stop_gradient(tf.math.divide_no_nan(tf.reduce_sum(a, -1, True), tf.reduce_sum(b, -1, True)))
    return b * tf.where(tf.abs(ratio - 1.0) < _ROUNDED_MASSES, ratio, 1.0)


def _as_float(values, name):
    tensor = _require_real(tf.convert_to_tensor(values), name)
    # Half precision has neither the range nor the digits for the updates.
    return tensor if tensor.dtype in (tf.float32, tf.float64) else tf.cast(tensor, tf.float32)


def _as_type(values, dtype, name):
    # `tf.cast` alone would round Python numbers to float32 first.
    values = np.asarray(values) if isinstance(values, (int, float, list, tuple)) else values
    return tf.cast(_require_real(values, name), dtype)


def _as_weight(value, dtype):
    value = tf.cast(np.asarray(value) if isinstance(value, (int, float)) else value, dtype)
    # A negative weight may look solved.
    return tf.where((value > 0.0) & tf.math.is_finite(value), value, np.nan)


def _is_infinite(value):
    return value is not None and _is_known(value) and np.ndim(value) == 0 and value == np.inf


def _is_known(value):
    """Returns whether a number or tensor has a value already."""
    return not tf.is_tensor(value) or tf.executing_eagerly() and hasattr(value, "numpy")


def _require_real(tensor, name):
    if tf.as_dtype(tensor.dtype).is_complex:
        raise ValueError(f"`{name}` must be real. Received: {tf.as_dtype(tensor.dtype).name}.")
    return tensor


def _check_shapes(a, b, cost_matrix):
    if a.shape.rank != 2 or b.shape.rank != 2 or not a.shape[:1].is_compatible_with(b.shape[:1]):
        raise ValueError(f"`a`, `b` must have shapes [B, n], [B, m]. Received: a.shape={a.shape}, b.shape={b.shape}.")
    if a.shape[0] == 0:
        raise ValueError(f"`a` must hold at least one problem. Received: a.shape={a.shape}.")
    if a.dtype != b.dtype:
        raise ValueError(f"`a` and `b` must have one dtype. Received: {a.dtype.name} and {b.dtype.name}.")
    sizes = [a.shape[1], b.shape[1]]
    if 0 in sizes:
        raise ValueError(f"`a`, `b` must have at least one class. Received: a.shape={a.shape}, b.shape={b.shape}.")
    if not cost_matrix.shape.is_compatible_with(sizes):
        raise ValueError(f"`cost_matrix` must have shape [n, m] = {sizes}. Received: {cost_matrix.shape}.")


def _check_costs(cost_matrix):
    if _is_known(cost_matrix) and not bool(tf.reduce_all(cost_matrix > -np.inf)):
        raise ValueError("`cost_matrix` must hold no NaN and no minus infinity. Received: one that does.")


def _check_numbers(**numbers):
    for name, value in numbers.items():
        if tf.is_tensor(value) and name in ("threshold", "max_iterations"):
            raise ValueError(f"`{name}` must be a Python number. Received: {value}.")
        if value is not None and value.shape.rank if tf.is_tensor(value) else np.ndim(value):
            raise ValueError(f"`{name}` must be a single number. Received: {value}.")
        # A tensor has no value yet while a graph is built.
        if value is not None and _is_known(value) and not 0 < value < np.inf:
            rule = "finite" if value == np.inf else "greater than 0"
            raise ValueError(f"`{name}` must be {rule}. Received: {value}.")
