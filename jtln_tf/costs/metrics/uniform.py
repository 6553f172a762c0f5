"""The cost that knows only which classes have the same name."""

import numpy as np


def uniform_cost(source_classes, target_classes):
    """Returns [n, m] costs: 0 where the two classes have the same name, else 1."""
    return (np.array(source_classes)[:, None] != np.array(target_classes)[None]).astype(np.float32)
