"""Running means of features by class, gathered from the training batches as they pass."""

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.methods.jtln.objective import are_probabilities


class ClassMeans(keras.layers.Layer):
    """Means of each class's features over about the last `memory_steps` steps: no image is looked at twice for them.

    An image counts (1 - 1 / memory_steps) to the power of the steps since; a mixed one by its share of each class.
    """

    def __init__(self, num_classes, width, memory_steps, name):
        """Makes the means.

        Args:
            num_classes: Classes, K.
            width: Width of the features, D.
            memory_steps: Steps in which an image's weight falls to about a third.
            name: Name of the layer.
        """
        super().__init__(name=name, trainable=False)
        self._kept = 1.0 - 1.0 / memory_steps
        # Replicas see other images; sums and counts alike are averaged over them, so the means are over all images.
        options = {"initializer": "zeros", "trainable": False, "dtype": "float32", "aggregation": "mean"}
        self.sums = self.add_weight(shape=(num_classes, width), name="sums", **options)
        self.counts = self.add_weight(shape=(num_classes, 1), name="counts", **options)

    def update(self, features, labels):
        """Takes in the features [B, D] of a batch with the class indices [B], or with probabilities [B, K]."""
        for total, values in ((self.sums, features), (self.counts, tf.ones_like(features[:, :1]))):
            if are_probabilities(labels):
                added = tf.matmul(labels, values, transpose_a=True)
            else:
                added = tf.math.unsorted_segment_sum(values, labels, total.shape[0])
            total.assign(self._kept * tf.convert_to_tensor(total) + added)

    def numpy(self):
        """Returns the means, float64 [K, D]; NaN for a class of which no image has been seen."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.sums, np.float64) / np.asarray(self.counts, np.float64)
