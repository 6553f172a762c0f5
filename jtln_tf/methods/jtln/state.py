"""State of JTLN besides the weights: the class costs, and the class means they may be computed from."""

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.config import SIDES, InputError
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.methods.base import Outputs
from jtln_tf.methods.jtln.agreement import find_agreement
from jtln_tf.methods.terms import are_probabilities


class TransportState(keras.layers.Layer):
    """The class costs of the transport loss and, if they are found online, running class means.

    Attributes:
        cost_values: Class costs [n, m].
        source_weights: Weight of the transport for images of each source class [n], in [0, 1].
        has_costs: 1 once costs are set; until then 0, and the transport loss is off.
        class_means: `ClassMeans` by side; empty unless costs are found online.
    """

    def __init__(self, network: keras.Model, memory_steps: int = 0, *, is_gated: bool = False):
        """Makes the variables for the network's heads.

        With `memory_steps` 0 no class means are gathered; without `is_gated` the weights of the source classes stay 1.
        """
        super().__init__(name="transport_state", trainable=False)
        self._num_classes = tuple(network.output[side].shape[-1] for side in SIDES)
        options = {"initializer": "zeros", "trainable": False, "dtype": "float32"}
        # Only assigned between steps, so that all replicas hold the same.
        options["aggregation"] = "only_first_replica"
        self.cost_values = self.add_weight(shape=self._num_classes, name="cost_values", **options)
        self._is_gated = is_gated
        self.source_weights = self.add_weight(
            shape=self._num_classes[:1], name="source_weights", **{**options, "initializer": "ones"}
        )
        self.has_costs = self.add_weight(shape=(), name="has_costs", **options)
        self.class_means = {
            side: ClassMeans(classes, self._num_classes[0], memory_steps, name=f"{side}_class_means")
            for side, classes in zip(SIDES, self._num_classes, strict=True)
            if memory_steps
        }

    def set_costs(self, cost_matrix: CostMatrix) -> None:
        """Sets the class costs of the next steps; raises `InputError` if a `CostMatrix` does not fit the heads."""
        if cost_matrix.values.shape != self._num_classes:
            raise InputError(
                "`cost_matrix` must have shape [num_source_classes, num_target_classes] = "
                f"{list(self._num_classes)}. Received: {list(cost_matrix.values.shape)}."
            )
        self.cost_values.assign(cost_matrix.values)
        if self._is_gated:
            self.source_weights.assign(find_agreement(cost_matrix.values).trusted(cost_matrix.trust).source_weights)
        self.has_costs.assign(1.0)

    def costs_in_use(self) -> np.ndarray | None:
        """Returns the class costs [n, m], or None before there are any."""
        return _read(self.cost_values) if _read(self.has_costs) else None

    def observe(self, labels: dict[str, tf.Tensor], outputs: dict[str, Outputs]) -> None:
        """Adds a batch to the class means; arguments as of `Method.losses`."""
        for side, means in self.class_means.items():
            if side in outputs:
                means.update(tf.nn.softmax(outputs[side].source), labels[side])


class ClassMeans(keras.layers.Layer):
    """Means of each class's features over about the last `memory_steps` steps, gathered as the batches pass.

    The weight of an image shrinks by the factor 1 - 1 / memory_steps each step; a mixed image counts for each class by
    its share.
    """

    def __init__(self, num_classes: int, width: int, memory_steps: int, name: str):
        """Makes the variables for K classes and features [B, D]; a weight falls to a third in `memory_steps` steps."""
        super().__init__(name=name, trainable=False)
        self._kept = 1.0 - 1.0 / memory_steps
        options = {"initializer": "zeros", "trainable": False, "dtype": "float32", "aggregation": "only_first_replica"}
        self.sums = self.add_weight(shape=(num_classes, width), name="sums", **options)
        self.counts = self.add_weight(shape=(num_classes, 1), name="counts", **options)

    def update(self, features: tf.Tensor, labels: tf.Tensor) -> None:
        """Takes in features [B, D] with class indices [B] or class probabilities [B, K]."""
        for total, values in ((self.sums, features), (self.counts, tf.ones_like(features[:, :1]))):
            if are_probabilities(labels):
                added = tf.matmul(labels, values, transpose_a=True)
            else:
                added = tf.math.unsorted_segment_sum(values, labels, total.shape[0])
            context = tf.distribute.get_replica_context()
            if context.num_replicas_in_sync > 1:
                # Each replica sees other images.
                added = context.all_reduce(tf.distribute.ReduceOp.SUM, added)
            total.assign(self._kept * tf.convert_to_tensor(total) + added)

    def numpy(self) -> np.ndarray:
        """Returns the means, float64 [K, D]; NaN for a class of which no image has been seen."""
        with np.errstate(invalid="ignore"):
            return _read(self.sums).astype(np.float64) / _read(self.counts).astype(np.float64)


def _read(variable):
    # With several replicas each has a copy, which NumPy and `float` cannot read.
    return keras.ops.convert_to_numpy(variable)
