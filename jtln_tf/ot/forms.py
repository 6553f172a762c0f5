"""The arithmetic that a problem needs. Floor 1."""

import tensorflow as tf

# The kernel exp(-C / epsilon) is used in a type whose smallest normal number lies far below exp(-range / epsilon):
# float32 ends near exp(-87), float64 near exp(-708). The rest of the exponent is room for the sums.
LARGEST_RATIO = {tf.float32: 60.0, tf.float64: 600.0}
# The L1 marginal error that float32 still reaches: the sums of a thousand classes are exact to about a tenth of it.
_FLOAT32_THRESHOLD = 1e-5


def by_form(problem, with_kernel, in_log_domain, threshold=1.0):
    """Runs the fastest form that is exact for the range of the costs over epsilon.

    Args:
        problem: `Problem`.
        with_kernel: Takes the float type of the kernel; returns tensors.
        in_log_domain: Takes nothing; returns the same tensors.
        threshold: Marginal error to reach.

    Returns:
        The tensors of the chosen form.
    """
    costs = problem.cost_matrix
    ratio = (tf.reduce_max(costs) - tf.reduce_min(costs)) / problem.epsilon
    in_float32 = problem.dtype == tf.float32 and threshold >= _FLOAT32_THRESHOLD

    def in_float64():
        return tf.cond(ratio <= LARGEST_RATIO[tf.float64], lambda: with_kernel(tf.float64), in_log_domain)

    if not in_float32:
        return in_float64()
    return tf.cond(ratio <= LARGEST_RATIO[tf.float32], lambda: with_kernel(tf.float32), in_float64)
