"""Sinkhorn as in a textbook, to count its updates."""

import numpy as np
from scipy.special import logsumexp


def count_plain_updates(a_logits, b_logits, costs, method):
    """Returns how many updates of both potentials each problem takes without acceleration, in float64, [B].

    `method` gives epsilon, threshold and most iterations, as the options of JTLN do.
    The range of the costs over epsilon must be below 600, where the kernel ends.
    """
    log_a, log_b = (x - logsumexp(x, axis=1, keepdims=True) for x in (np.float64(a_logits), np.float64(b_logits)))
    a, b = np.exp(log_a), np.exp(log_b)
    kernel = np.exp(-np.float64(costs) / method.epsilon)
    v, counts = np.ones_like(b), np.full(len(a), method.sinkhorn_max_iterations)
    for count in range(1, method.sinkhorn_max_iterations + 1):
        sums = (a / (v @ kernel.T)) @ kernel
        error = np.abs(v * sums - b).sum(axis=1)
        counts = np.where(error <= method.sinkhorn_threshold, np.minimum(counts, count), counts)
        if error.max() <= method.sinkhorn_threshold:
            break
        v = b / sums
    return counts
