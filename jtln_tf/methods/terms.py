"""Loss terms that several methods share: per example, unweighted."""

import tensorflow as tf


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy of each image, [B].

    Args:
        labels: Class indices [B], or class probabilities [B, classes].
        logits: Logits [B, classes].
    """
    logits = tf.cast(logits, tf.float32)
    if are_probabilities(labels):
        return tf.nn.softmax_cross_entropy_with_logits(labels, logits)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def are_probabilities(labels: tf.Tensor) -> bool:
    """Returns whether labels are class probabilities [B, classes], as of mixed images, not class indices [B]."""
    return len(labels.shape) == 2
