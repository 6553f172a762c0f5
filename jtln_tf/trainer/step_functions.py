"""The compiled function behind `fit` and `evaluate`, for one replica, several, or several machines."""

from collections.abc import Callable

import keras
import tensorflow as tf


def make_step_function(model: keras.Model, step: Callable, means: dict[str, keras.metrics.Metric]) -> Callable:
    """Builds the function that runs one step on the next batch of an iterator.

    Keras's own reads the results of metrics inside a replica, and stops under several workers. Here `step`, whose keys
    name the metrics that it updated, runs on all replicas, and the results of these `means` are read once after it.
    """
    strategy = model.distribute_strategy
    options = {"autograph": False, "reduce_retracing": True}

    def after_data(data):
        # Counters do not read the data: at its end they must wait for it, and so not run.
        with tf.control_dependencies(tf.nest.flatten(data)):
            return step(data)

    on_replica = step if model.run_eagerly else tf.function(after_data, jit_compile=model.jit_compile, **options)

    def take_step(iterator):
        reported = strategy.run(on_replica, args=(next(iterator),))
        return {name: means[name].result() for name in reported}

    if not model.run_eagerly:
        take_step = tf.function(take_step, **options)

    def take_steps(iterator):
        try:
            for _ in range(model.steps_per_execution):
                results = take_step(iterator)
        except tf.errors.OutOfRangeError as error:
            # What Keras understands as the end of the data.
            raise StopIteration from error
        return results

    return take_steps
