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


def class_indices(labels: tf.Tensor) -> tf.Tensor:
    """Returns class indices [B] of labels; a mixed image counts for the class with the larger share."""
    return tf.argmax(labels, axis=1, output_type=tf.int32) if are_probabilities(labels) else tf.cast(labels, tf.int32)


def squared_size(arrays: list[tf.Tensor]) -> tf.Tensor:
    """Returns the sum of the squares of all numbers in some arrays, a scalar."""
    return tf.add_n([tf.reduce_sum(tf.square(array)) for array in arrays])


def gather_batch(values: tf.Tensor) -> tf.Tensor:
    """Returns the values [B, ...] of all replicas, in their order; each gets the gradient of its own."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_gather(values, axis=0)
