"""Labels and predictions to the named terms of the loss. Floor 3.

    loss =                       mean over target images of CE(y, p_t(x))
         + source_weight    *    mean over source images of CE(y, p_s(x))
         + transport_weight *    mean over the chosen images of OT_epsilon(p_s(x), p_t(x); C)

Reference:
    Lu, Chen, Saidi, 2017, Optimal Transport for Deep Joint Transfer Learning, arXiv:1709.02995.
"""

import dataclasses

import tensorflow as tf

from jtln_tf.ot import sinkhorn, sinkhorn_from_logits


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledLogits:
    """What the network says of the images of one domain.

    Attributes:
        labels: Class indices in the images' own domain [B], or probabilities of its classes [B, classes].
        source: Logits of the source head [B, n].
        target: Logits of the target head [B, m].
    """

    labels: tf.Tensor
    source: tf.Tensor
    target: tf.Tensor


def classification_loss(labels, logits):
    """Cross-entropy of each image, [B]; labels are class indices [B] or probabilities as the logits, [B, classes]."""
    logits = tf.cast(logits, tf.float32)
    if are_probabilities(labels):
        return tf.nn.softmax_cross_entropy_with_logits(labels, logits)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def are_probabilities(labels):
    """Whether labels are probabilities [B, classes], as of mixed images, and not class indices [B]."""
    return len(labels.shape) == 2


def transport_loss(predictions, cost_matrix, settings):
    """Entropic transport cost between the two heads' predictions of each image.

    Args:
        predictions: `LabelledLogits` of the images, in float32.
        cost_matrix: Class cost matrix [n, m].
        settings: `ObjectiveConfig`.

    Returns:
        `SinkhornOutput`; gradients of `regularized_cost` flow to the heads that `settings.transport_gradient` names.
    """
    moves = settings.transport_gradient
    source_logits = tf.cast(predictions.source, tf.float32) / settings.transport_temperature
    target_logits = tf.cast(predictions.target, tf.float32) / settings.transport_temperature
    source_logits = source_logits if moves in ("source", "both") else tf.stop_gradient(source_logits)
    target_logits = target_logits if moves in ("target", "both") else tf.stop_gradient(target_logits)
    solver = {"threshold": settings.sinkhorn_threshold, "max_iterations": settings.sinkhorn_max_iterations}
    if settings.transport_source_marginal == "label":
        num_classes = predictions.source.shape[-1]
        smoothing, labels = settings.transport_label_smoothing, predictions.labels
        labels = labels if are_probabilities(labels) else tf.one_hot(labels, num_classes)
        a = (1.0 - smoothing) * labels + smoothing / num_classes
        return sinkhorn(a, tf.nn.softmax(target_logits), cost_matrix, settings.epsilon, **solver)
    return sinkhorn_from_logits(source_logits, target_logits, cost_matrix, settings.epsilon, **solver)


def joint_loss(predictions, cost_matrix, settings, transport_weight, *, num_replicas=1):
    """Weighted sum of the three terms, and each of them by name.

    A term whose images are not in the batch is left out, so that the baselines train through the same code.

    Args:
        predictions: `LabelledLogits` by domain, `source`, `target` or both.
        cost_matrix: Class cost matrix [n, m].
        settings: `ObjectiveConfig`.
        transport_weight: Weight of the transport term in this step, scalar; at 0 the transport is not solved.
        num_replicas: Replicas that share the global batch: gradients are summed over them.

    Returns:
        `(total, parts)`: the scalar to minimize (this replica's share), and a dict of scalars: `target_loss`,
        `source_loss`, `transport_loss` (each a mean, before its weight) and, of the solver, `sinkhorn_iterations` (of
        the image that took most), `marginal_error`, `transport_converged` (share of the images).
    """

    def average(per_image):
        return tf.nn.compute_average_loss(per_image, global_batch_size=tf.shape(per_image)[0] * num_replicas)

    total, parts = tf.constant(0.0), {}
    if "target" in predictions:
        per_image = classification_loss(predictions["target"].labels, predictions["target"].target)
        total += average(per_image)
        parts["target_loss"] = tf.reduce_mean(per_image)
    if "source" in predictions:
        per_image = classification_loss(predictions["source"].labels, predictions["source"].source)
        total += settings.source_weight * average(per_image)
        parts["source_loss"] = tf.reduce_mean(per_image)
    if len(predictions) < 2 or settings.transport_weight == 0:
        return total, parts

    chosen = [domain for domain in predictions if settings.transport_images in (domain, "both")]

    def solve():
        outputs = [transport_loss(predictions[domain], cost_matrix, settings) for domain in chosen]
        costs = tf.concat([output.regularized_cost for output in outputs], 0)
        errors = tf.concat([output.marginal_error for output in outputs], 0)
        converged = tf.concat([tf.cast(output.converged, tf.float32) for output in outputs], 0)
        n_iters = tf.reduce_max(tf.concat([tf.cast(output.n_iters, tf.float32) for output in outputs], 0))
        return average(costs), tf.reduce_mean(costs), tf.reduce_mean(errors), tf.reduce_mean(converged), n_iters

    zero = tf.constant(0.0)
    share, mean, error, converged, n_iters = tf.cond(
        tf.greater(transport_weight, 0), solve, lambda: (zero, zero, zero, zero + 1.0, zero)
    )
    parts |= {
        "transport_loss": mean,
        "marginal_error": error,
        "transport_converged": converged,
        "sinkhorn_iterations": n_iters,
    }
    return total + transport_weight * share, parts
