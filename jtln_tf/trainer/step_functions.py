"""The compiled function behind `fit` and `evaluate`, for one replica, several, or several machines."""

from collections.abc import Callable

import keras
import tensorflow as tf

from jtln_tf.trainer.means import RunningMeans


class StepFunction:
    """Runs one step on the next batch of an iterator.

    Keras's own reads the results of metrics inside a replica, and stops under several workers. Here `step`, whose keys
    name what it reported, runs on all replicas, and the results of the `means` are read once after it.
    """

    def __init__(self, model: keras.Model, step: Callable, means: RunningMeans):
        """Compiles the step of a model, unless it runs eagerly."""
        self._steps = model.steps_per_execution
        strategy, is_eager = model.distribute_strategy, model.run_eagerly
        options = {"autograph": False, "reduce_retracing": True}
        with tf.device("CPU:0"):
            self._waited = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="seconds_waited")

        def after_data(data):
            # Counters do not read the data: at its end they must wait for it, and so not run.
            with tf.control_dependencies(tf.nest.flatten(data)):
                return step(data)

        on_replica = step if is_eager else tf.function(after_data, jit_compile=model.jit_compile, **options)

        def take_step(iterator):
            asked = tf.timestamp()
            with tf.control_dependencies([asked]):
                data = next(iterator)
            with tf.control_dependencies(tf.nest.flatten(data, expand_composites=True)), tf.device("CPU:0"):
                self._waited.assign_add(tf.timestamp() - asked)
            reported = strategy.run(on_replica, args=(data,))
            results = means.result()
            return {name: results[name] for name in reported}

        self._take_step = take_step if is_eager else tf.function(take_step, **options)

    def __call__(self, iterator) -> dict[str, tf.Tensor]:
        """Takes `steps_per_execution` steps; returns the means by name; `StopIteration` at the end of the data."""
        try:
            for _ in range(self._steps):
                results = self._take_step(iterator)
        except tf.errors.OutOfRangeError as error:
            # What Keras understands as the end of the data.
            raise StopIteration from error
        return results

    def take_seconds_waited(self) -> float:
        """Returns how long steps have waited for their data since this was last asked."""
        waited = float(self._waited.numpy())
        self._waited.assign(0.0)
        return waited
