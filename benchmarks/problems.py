"""The problems on which solvers are compared: B pairs of marginals and one cost matrix in [0, 1]."""

import numpy as np

# (B, n, m)
SIZES = ((128, 10, 10), (128, 100, 10), (128, 1000, 31), (256, 1000, 200), (64, 21000, 100))
# Of the range of the costs.
EPSILONS = (0.1, 0.02, 0.005)
# L1 distance between the marginals of the returned plan and the given ones.
TOLERANCE = 1e-4


def make_problem(batch_size, n, m, seed=0):
    """Draws softmaxes of 3-sigma logits, and squared distances of points in 16 dimensions.

    Returns:
        `(a, b, cost_matrix)`: float32 [B, n], [B, m], [n, m].
    """
    rng = np.random.default_rng(seed)

    def marginals(size):
        logits = 3 * rng.standard_normal((batch_size, size))
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)

    a, b = marginals(n), marginals(m)
    rows, columns = rng.standard_normal((n, 16)), rng.standard_normal((m, 16))
    squares = (rows**2).sum(1)[:, None] + (columns**2).sum(1) - 2 * rows @ columns.T
    return a, b, ((squares - squares.min()) / np.ptp(squares)).astype(np.float32)


def marginal_error(a, b, cost_matrix, epsilon, f, g):
    """Returns the largest L1 error of both marginals over the problems, of the plan of f, g, in float64."""
    worst = 0.0
    scaled = np.float64(cost_matrix) / epsilon
    for mass_a, mass_b, row, column in zip(a, b, np.float64(f), np.float64(g), strict=True):
        plan = np.exp(row[:, None] / epsilon + column / epsilon - scaled)
        worst = max(worst, np.abs(plan.sum(1) - mass_a).sum() + np.abs(plan.sum(0) - mass_b).sum())
    return float(worst)
