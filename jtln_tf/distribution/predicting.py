"""Forward passes over batches of images, shared by the devices of this process."""

import weakref

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.distribution.replicas import replicas_of

# By model, and the shape and type of what it reads.
_functions = weakref.WeakKeyDictionary()


def predict(model: keras.Model, images: tf.Tensor) -> np.ndarray | dict[str, np.ndarray]:
    """Returns what a model says of images [B, ...] at inference: an array [B, ...], or a dict of them.

    Each device of this process takes an equal share of the images. Other workers take no part in it.
    """
    replicas = replicas_of(model)
    images = tf.convert_to_tensor(images)
    function = _function_of(model, replicas, tuple(images.shape[1:]), images.dtype)
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


def _function_of(model, replicas, shape, dtype):
    """Returns a function from images [B, *shape] to outputs, which on one device is traced once, for any B.

    Keras's `predict` would start a thread pool and a progress bar for each batch.
    """
    functions = _functions.setdefault(model, {})
    if (shape, dtype) not in functions:
        network = weakref.ref(model)

        def call(images):
            # Not before: pixels are a quarter of the size on their way to a device.
            return network()(tf.cast(images, tf.float32), training=False)

        signature = [tf.TensorSpec((None, *shape), dtype)]
        if replicas.count == 1:
            functions[shape, dtype] = tf.function(call, input_signature=signature, autograph=False)
        else:
            functions[shape, dtype] = tf.function(
                lambda share: replicas.strategy.run(call, (share,)), reduce_retracing=True, autograph=False
            )
    return functions[shape, dtype]
