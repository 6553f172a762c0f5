"""The cost that knows only which classes have the same name."""

import numpy as np


def uniform_cost(source_classes: tuple[str, ...], target_classes: tuple[str, ...]) -> np.ndarray:
    """Returns costs [n, m]: 0 for two classes of the same name, else 1."""
    return (np.array(source_classes)[:, None] != np.array(target_classes)[None]).astype(np.float32)


def compute_uniform(evidence) -> tuple[np.ndarray, dict]:
    """Compares the names of the classes."""
    return uniform_cost(*(domain.class_names for domain in evidence.domains.values())), {}
