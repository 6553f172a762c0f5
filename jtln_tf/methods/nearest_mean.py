"""The class means of the strong start, without any training."""

import dataclasses

from jtln_tf.config import InputError
from jtln_tf.methods.base import Method


@dataclasses.dataclass(frozen=True)
class NearestMean(Method):
    """Takes for each image the class with the nearest mean: the strong start alone."""

    name = "nearest_mean"
    title = "nearest class mean"
    reports = ()

    def stages(self, steps):
        """Returns no stage."""
        return ()

    def check(self, config):
        """Checks that the network starts from class means."""
        if config.network.start == "random":
            raise InputError(f"`method`={self.name} needs `start`=strong. Received: start='random'.")

    def losses(self, labels, outputs, moment):
        """Returns no terms."""
        return {}
