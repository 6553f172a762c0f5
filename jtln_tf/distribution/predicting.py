"""Forward passes over batches of images, shared by the devices of this process."""

import weakref

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.distribution.replicas import replicas_of

# By model, and the shape of what it reads.
_functions = weakref.WeakKeyDictionary()


def predict(model: keras.Model, images: tf.Tensor) -> np.ndarray | dict[str, np.ndarray]:
    """Returns what a model says of images [B, ...] at inference: an array [B, ...], or a dict of them.

    Each device of this process takes an equal share of the images. Other workers take no part in it.
    """
    replicas = replicas_of(model)
    # Keras's `predict` would start a thread pool and a progress bar for each batch.
    images = tf.cast(images, tf.float32)
    function = _function_of(model, replicas, tuple(images.shape[1:]))
    if replicas.count == 1:
        return tf.nest.map_structure(np.asarray, function(images))
    count, parts = images.shape[0], replicas.local_count
    # Every part is of one size: the last images are looked at twice.
    size = -(-count // parts)
    rows = np.minimum(np.arange(size * parts), count - 1)
    slices = tf.split(tf.gather(images, rows), parts)
    share = replicas.strategy.experimental_distribute_values_from_function(
        lambda context: slices[context.replica_id_in_sync_group % parts]
    )
    results = replicas.strategy.experimental_local_results(function(share))
    return tf.nest.map_structure(lambda *own: np.concatenate([np.asarray(one) for one in own])[:count], *results)


def _function_of(model, replicas, shape):
    """Returns a function from images [B, *shape] to outputs; it is traced once, for any B."""
    functions = _functions.setdefault(model, {})
    if shape not in functions:
        network = weakref.ref(model)

        def call(images):
            return network()(images, training=False)

        signature = [tf.TensorSpec((None, *shape), tf.float32)]
        if replicas.count == 1:
            functions[shape] = tf.function(call, input_signature=signature, autograph=False)
        else:
            functions[shape] = tf.function(
                lambda share: replicas.strategy.run(call, (share,)), reduce_retracing=True, autograph=False
            )
    return functions[shape]
