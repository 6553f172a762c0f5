"""Forward passes over batches of images, shared by the devices of this process."""

import weakref

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.distribution.replicas import replicas_of

_functions = weakref.WeakKeyDictionary()


def predict(model: keras.Model, images: tf.Tensor) -> np.ndarray | dict[str, np.ndarray]:
    """Returns what a model says of images [B, ...] at inference: an array [B, ...], or a dict of them.

    Each device of this process takes an equal share of the images. Other workers take no part in it.
    """
    replicas = replicas_of(model)
    if replicas.count == 1:
        # `predict` would start a thread pool and a progress bar for each batch.
        return model.predict_on_batch(images)
    images = tf.convert_to_tensor(images)
    count, parts = images.shape[0], replicas.local_count
    # Every part is of one size: the last images are looked at twice.
    size = -(-count // parts)
    rows = np.minimum(np.arange(size * parts), count - 1)
    slices = tf.split(tf.gather(images, rows), parts)
    share = replicas.strategy.experimental_distribute_values_from_function(
        lambda context: slices[context.replica_id_in_sync_group % parts]
    )
    results = replicas.strategy.experimental_local_results(_function_of(model, replicas)(share))
    return tf.nest.map_structure(lambda *own: np.concatenate([np.asarray(one) for one in own])[:count], *results)


def _function_of(model, replicas):
    if model not in _functions:
        network = weakref.ref(model)

        @tf.function(reduce_retracing=True, autograph=False)
        def run(share):
            return replicas.strategy.run(
                lambda images: network()(tf.cast(images, tf.float32), training=False), (share,)
            )

        _functions[model] = run
    return _functions[model]
