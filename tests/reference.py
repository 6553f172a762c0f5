"""Slow, plain NumPy float64 oracles, written from the formulas and sharing no code with the package."""

import numpy as np


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(logits):
    return np.exp(log_softmax(logits))


def classification_loss(labels, logits):
    return np.array([-log_softmax(row)[label] for label, row in zip(labels, logits, strict=True)])


class Transport:
    """Solution of one problem: potentials f [n], g [m], the plan [n, m] and its two costs."""

    def __init__(self, f, g, cost_matrix, epsilon):
        self.f, self.g = f, g
        log_plan = (f[:, None] + g[None, :] - cost_matrix) / epsilon
        self.plan = np.exp(log_plan)
        self.transport_cost = (self.plan * cost_matrix).sum()
        # H(P) = -sum P log P, with 0 log 0 = 0.
        entropy = -(self.plan * np.where(self.plan > 0, log_plan, 0)).sum()
        self.regularized_cost = self.transport_cost - epsilon * entropy


def sinkhorn(log_a, log_b, cost_matrix, epsilon, *, tolerance=1e-11, most=200):
    """Solves one problem of log marginals [n], [m] by updates and dense Newton steps on both potentials at once.

    Steps are halved until the dual does not fall, epsilon is halved towards its value. Whatever the way there, a plan
    of this form that has the marginals is the solution, and that is checked.
    """
    log_a, log_b, cost_matrix = (np.asarray(x, np.float64) for x in (log_a, log_b, cost_matrix))
    n, a, b = len(log_a), np.exp(log_a), np.exp(log_b)
    stages = [epsilon]
    while stages[-1] < np.ptp(cost_matrix):
        stages.append(2 * stages[-1])
    f, g = np.zeros(len(a)), np.zeros(len(b))

    def evaluate(f, g, stage):
        with np.errstate(over="ignore"):
            plan = np.exp((f[:, None] + g[None, :] - cost_matrix) / stage)
        return plan, f @ a + g @ b - stage * plan.sum()

    def update(f, g, stage):
        f = stage * (log_a - _log_sum_exp((g[None, :] - cost_matrix) / stage, axis=1))
        return f, stage * (log_b - _log_sum_exp((f[:, None] - cost_matrix) / stage, axis=0))

    for stage in reversed(stages):
        for _ in range(most):
            f, g = update(f, g, stage)
            plan, dual = evaluate(f, g, stage)
            rows, columns = plan.sum(axis=1), plan.sum(axis=0)
            if np.abs(rows - a).sum() < (tolerance if stage == epsilon else 1e-4):
                break
            hessian = np.block([[np.diag(rows), plan], [plan.T, np.diag(columns)]])
            # Scaled to a unit diagonal, so that classes of little mass are not lost; singular along constants.
            scale = 1 / np.sqrt(np.concatenate([rows, columns]))
            gradient = np.concatenate([a - rows, b - columns])
            step = scale * np.linalg.lstsq(hessian * np.outer(scale, scale), scale * gradient, rcond=1e-15)[0] * stage
            length = 1.0
            # The last digits of the dual are rounding.
            least = dual - 1e-14 * (abs(f) @ a + abs(g) @ b)
            while evaluate(f + length * step[:n], g + length * step[n:], stage)[1] < least and length > 1e-6:
                length /= 2
            if length > 1e-6:
                f, g = f + length * step[:n], g + length * step[n:]
        else:
            raise ArithmeticError(f"The reference must converge. Received: epsilon={stage}.")
    return Transport(f, g, cost_matrix, epsilon)


def unbalanced_sinkhorn(log_a, log_b, cost_matrix, epsilon, tau_a=None, tau_b=None, *, tolerance=1e-13, most=200_000):
    """Solves one problem of log masses [n], [m] of which at least one side is penalised, by log-sum-exp.

    Chizat, Peyre, Schmitzer, Vialard, 2018, arXiv:1607.05816: an update is shortened by `tau / (tau + epsilon)`. The
    value is that of the primal, `<P, C> + epsilon (sum P (log P - 1) + 1) + tau_a KL(P 1 | a) + tau_b KL(P' 1 | b)`
    with `KL(p | q) = sum (p log(p / q) - p + q)`; a term without a tau is absent.
    """
    log_a, log_b, cost_matrix = (np.asarray(x, np.float64) for x in (log_a, log_b, cost_matrix))
    row_share, column_share = (1.0 if tau is None else tau / (tau + epsilon) for tau in (tau_a, tau_b))
    f, g = np.zeros(len(log_a)), np.zeros(len(log_b))
    for _ in range(most):
        last = f
        f = row_share * epsilon * (log_a - _log_sum_exp((g[None, :] - cost_matrix) / epsilon, axis=1))
        g = column_share * epsilon * (log_b - _log_sum_exp((f[:, None] - cost_matrix) / epsilon, axis=0))
        if np.abs(f - last).max() < tolerance:
            break
    else:
        raise ArithmeticError(f"The reference must converge. Received: {epsilon=}, {tau_a=}, {tau_b=}.")
    solution = Transport(f, g, cost_matrix, epsilon)
    solution.regularized_cost += epsilon * (1 - solution.plan.sum())
    for tau, log_mass, axis in ((tau_a, log_a, 1), (tau_b, log_b, 0)):
        if tau is not None:
            marginal = solution.plan.sum(axis)
            solution.regularized_cost += tau * (marginal * (np.log(marginal) - log_mass - 1) + np.exp(log_mass)).sum()
    return solution


def sinkhorn_of_masses(a, b, cost_matrix, epsilon):
    """Solves one problem of marginals that may have zeros, on their support."""
    a, b, cost_matrix = (np.asarray(x, np.float64) for x in (a, b, cost_matrix))
    rows, columns = np.flatnonzero(a), np.flatnonzero(b)
    return sinkhorn(np.log(a[rows]), np.log(b[columns]), cost_matrix[np.ix_(rows, columns)], epsilon)


def median_squared_distance(features):
    """The median over all pairs of different images, with what replaces a median of 0."""
    features = np.asarray(features, np.float64)
    squares = [((x - y) ** 2).sum() for i, x in enumerate(features) for y in features[:i]]
    return np.median(squares) or np.mean(squares) or 1.0


def mkmmd(
    source_features, source_labels, target_features, target_labels, num_source_classes, num_target_classes, scale=None
):
    """Unbiased squared MK-MMD [n, m] by loops over pairs; the scale is the median over all pairs of both domains."""
    source, target = np.asarray(source_features, np.float64), np.asarray(target_features, np.float64)
    scale = scale or median_squared_distance(np.concatenate([source, target]))

    def mixture(x, y):
        return np.mean([np.exp(-((x - y) ** 2).sum() / (factor * scale)) for factor in (0.25, 0.5, 1.0, 2.0, 4.0)])

    return mmd_of_kernel(mixture, source, source_labels, target, target_labels, num_source_classes, num_target_classes)


def mmd_of_kernel(kernel, source, source_labels, target, target_labels, num_source_classes, num_target_classes):
    """Unbiased squared MMD [n, m] of kernel(x, y) by loops over pairs; a class of one image has the mean k(x, x)."""

    def mean_within(xs):
        values = [kernel(x, y) for i, x in enumerate(xs) for j, y in enumerate(xs) if i != j or len(xs) == 1]
        return sum(values) / len(values)

    cost = np.zeros((num_source_classes, num_target_classes))
    for i in range(num_source_classes):
        for j in range(num_target_classes):
            s, t = source[np.asarray(source_labels) == i], target[np.asarray(target_labels) == j]
            between = sum(kernel(x, y) for x in s for y in t) / (len(s) * len(t))
            cost[i, j] = mean_within(s) + mean_within(t) - 2 * between
    return cost


def double_centre(values):
    n, m = np.shape(values)
    rows, columns = np.eye(n) - 1 / n, np.eye(m) - 1 / m
    return rows @ np.asarray(values, np.float64) @ columns


def dual_centre(values, epsilon=0.03):
    """Reduced costs [n, m], mean 0: the double-centred values, scaled to [0, 1], less their own dual potentials.

    Run to convergence, so that the order of the updates does not matter.
    """
    centred = double_centre(values)
    scaled = (centred - centred.min()) / np.ptp(centred)
    n, m = scaled.shape
    solution = sinkhorn(np.full(n, -np.log(n)), np.full(m, -np.log(m)), scaled, epsilon, tolerance=1e-8)
    reduced = scaled - solution.f[:, None] - solution.g[None, :]
    return reduced - reduced.mean()


def _log_sum_exp(values, axis):
    peak = values.max(axis=axis, keepdims=True)
    return np.squeeze(peak, axis) + np.log(np.exp(values - peak).sum(axis=axis))


def resize_bilinear(pixels, side):
    """Pixels [S, S, C] at `side` x `side` sample points, pixel centres at halves, the border repeated."""
    points = np.clip((np.arange(side) + 0.5) * len(pixels) / side - 0.5, 0, len(pixels) - 1)
    for axis in (0, 1):
        pixels = np.apply_along_axis(lambda line: np.interp(points, np.arange(len(line)), line), axis, pixels)
    return pixels


def caffe_alexnet(image, blobs):
    """Returns the outputs, by layer, of Caffe's `bvlc_alexnet` for an RGB image [227, 227, 3] in 0..255.

    Channels first, after the ReLU, pooling rounded up. `blobs` holds `(weights [out, in / groups, height, width] or
    [out, in], biases)` by layer.
    """
    out = {}
    # BGR minus the mean, as the network was trained.
    x = np.asarray(image, np.float64)[..., ::-1].transpose(2, 0, 1) - np.reshape([103.939, 116.779, 123.68], (3, 1, 1))
    layers = [(4, 0, 1), (1, 2, 2), (1, 1, 1), (1, 1, 2), (1, 1, 2)]
    for number, (stride, padding, groups) in enumerate(layers, start=1):
        weights, biases = (np.asarray(blob, np.float64) for blob in blobs[f"conv{number}"])
        x = _grouped_convolution(x, weights, stride, padding, groups) + biases[:, None, None]
        x = out[f"conv{number}"] = np.maximum(x, 0)
        if number <= 2:
            x = out[f"norm{number}"] = _caffe_local_response(x)
        if number in (1, 2, 5):
            x = out[f"pool{number}"] = _caffe_max_pool(x)
    x = x.reshape(-1)
    for name in ("fc6", "fc7"):
        weights, biases = (np.asarray(blob, np.float64).reshape(len(blob), -1) for blob in blobs[name])
        x = out[name] = np.maximum(weights @ x + biases[:, 0], 0)
    return out


def _grouped_convolution(x, weights, stride, padding, groups):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    size = weights.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    parts = zip(np.split(windows, groups), np.split(weights, groups), strict=True)
    return np.concatenate([np.tensordot(w, part, axes=([1, 2, 3], [0, 3, 4])) for part, w in parts])


def _caffe_local_response(x, size=5, alpha=1e-4, beta=0.75):
    squares = np.pad(x**2, ((size // 2, size // 2), (0, 0), (0, 0)))
    return x / (1 + alpha / size * sum(squares[i : i + len(x)] for i in range(size))) ** beta


def _caffe_max_pool(x, size=3, stride=2):
    height, width = (-(-(side - size) // stride) + 1 for side in x.shape[1:])
    rows = [x[:, i * stride : i * stride + size] for i in range(height)]
    return np.stack(
        [np.stack([row[:, :, j * stride : j * stride + size].max((1, 2)) for j in range(width)], 1) for row in rows], 1
    )
