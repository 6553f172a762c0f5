"""The transport term of JTLN."""

import typing

import tensorflow as tf

from jtln_tf.methods.base import Moment, Outputs, Term
from jtln_tf.methods.terms import are_probabilities
from jtln_tf.ot import SinkhornOutput, sinkhorn, sinkhorn_from_logits

if typing.TYPE_CHECKING:
    from jtln_tf.methods.jtln.method import Jtln
    from jtln_tf.methods.jtln.state import TransportState


def transport_terms(
    method: "Jtln", labels: dict[str, tf.Tensor], outputs: dict[str, Outputs], moment: Moment
) -> dict[str, Term]:
    """Returns the transport loss and, only reported, how well it was solved; arguments as of `Method.losses`.

    `transport_loss`, `marginal_error`, `transport_converged` and `sinkhorn_iterations` have a value per image;
    `transport_weight` is a scalar. An image is solved until its own error is small enough, so none of these depends on
    who shares its batch.
    """
    chosen = [side for side in outputs if method.transport_images in (side, "both")]
    weight = transport_weight(method, moment)
    costs = tf.convert_to_tensor(moment.state.cost_values)

    def solve():
        solved = [solve_transport(method, labels[side], outputs[side], costs) for side in chosen]
        gates = [image_weights(moment.state, labels[side], side, outputs[side]) for side in chosen]
        return (
            tf.concat([gate * one.regularized_cost for gate, one in zip(gates, solved, strict=True)], 0),
            tf.concat([one.marginal_error for one in solved], 0),
            tf.concat([tf.cast(one.converged, tf.float32) for one in solved], 0),
            tf.concat([tf.cast(one.n_iters, tf.float32) for one in solved], 0),
        )

    def skip():
        zeros = tf.zeros([sum(tf.shape(outputs[side].source)[0] for side in chosen)])
        return zeros, zeros, zeros + 1.0, zeros

    # Where no class is trusted, all losses would be multiplied by 0.
    is_used = (weight > 0) & tf.reduce_any(tf.convert_to_tensor(moment.state.source_weights) > 0)
    cost, error, converged, n_iters = tf.cond(is_used, solve, skip)
    return {
        "transport_loss": Term(cost, weight),
        "marginal_error": Term(error, None),
        "transport_converged": Term(converged, None),
        "sinkhorn_iterations": Term(n_iters, None),
        "transport_weight": Term(weight, None),
    }


def solve_transport(method: "Jtln", labels: tf.Tensor, outputs: Outputs, costs: tf.Tensor) -> SinkhornOutput:
    """Solves the entropic transport between the two heads' predictions of each image.

    Labels, class indices [B] or probabilities [B, n], matter only if they are the source marginal; costs are [n, m].
    Gradients of the `regularized_cost` of the `SinkhornOutput` flow to the heads that `transport_gradient` names.
    """
    moves = method.transport_gradient
    source = tf.cast(outputs.source, tf.float32) / method.transport_temperature
    target = tf.cast(outputs.target, tf.float32) / method.transport_temperature
    source = source if moves in ("source", "both") else tf.stop_gradient(source)
    target = target if moves in ("target", "both") else tf.stop_gradient(target)
    solver = {"threshold": method.sinkhorn_threshold, "max_iterations": method.sinkhorn_max_iterations}
    if method.transport_marginal_penalty:
        solver |= dict.fromkeys(("tau_a", "tau_b"), method.transport_marginal_penalty)
    if method.transport_source_marginal == "label":
        num_classes, smoothing = outputs.source.shape[-1], method.transport_label_smoothing
        labels = labels if are_probabilities(labels) else tf.one_hot(labels, num_classes)
        a = (1.0 - smoothing) * labels + smoothing / num_classes
        return sinkhorn(a, tf.nn.softmax(target), costs, method.epsilon, **solver)
    return sinkhorn_from_logits(source, target, costs, method.epsilon, **solver)


def image_weights(state: "TransportState", labels: tf.Tensor, side: str, outputs: Outputs) -> tf.Tensor:
    """Returns the weight of the transport of each image [B]: that of its source class, as labelled or predicted."""
    weights = tf.convert_to_tensor(state.source_weights)
    if side == "target":
        labels = tf.stop_gradient(tf.nn.softmax(outputs.source))
    return tf.linalg.matvec(labels, weights) if are_probabilities(labels) else tf.gather(weights, labels)


def transport_weight(method: "Jtln", moment: Moment) -> tf.Tensor:
    """Returns the weight of the transport loss in a step: 0 until it sets in and has costs, then growing."""
    since = tf.cast(moment.step - method.transport_start_step, tf.float32)
    ramp = tf.clip_by_value((since + 1.0) / max(method.transport_ramp_steps, 1), 0.0, 1.0)
    has_costs = tf.convert_to_tensor(moment.state.has_costs)
    return method.transport_weight * tf.where(since >= 0, ramp, 0.0) * has_costs
