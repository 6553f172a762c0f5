import types

import numpy as np
import scipy.spatial

from jtln_tf.costs.metrics.class_means import compute_class_means
from tests.costs.conftest import draw_features


def test_directions_of_mean_features_are_compared():
    sides = [draw_features([4, 6, 5]), draw_features([3, 9], seed=1)]
    evidence = types.SimpleNamespace(features=sides, describe_images=lambda: {"images_per_class": 9})
    means = [
        np.stack([features[labels == one].mean(axis=0) for one in range(max(labels) + 1)]) for features, labels in sides
    ]
    units = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in means]
    values, parameters = compute_class_means(evidence)
    np.testing.assert_allclose(values, scipy.spatial.distance.cdist(*units, "sqeuclidean"), rtol=1e-5)
    assert parameters == {"images_per_class": 9}
