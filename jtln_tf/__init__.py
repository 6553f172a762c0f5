"""Joint transfer learning with an optimal transport loss, in TensorFlow and Keras.

The names below are loaded when they are first used: a program can read its flags and its configuration, and tell of
what is wrong with them, without waiting for TensorFlow.
"""

import importlib

__version__ = "0.1.0"

_ROOMS = {
    "CostMatrix": "costs",
    "Domain": "domains",
    "ExperimentConfig": "config",
    "InputError": "config",
    "JointModel": "trainer",
    "build_cost_matrix": "cost_building",
    "build_network": "network",
    "evaluate": "evaluation",
    "export_network": "export",
    "load_cost_matrix": "costs",
    "load_domain": "domains",
    "pair_domains": "pairing",
    "run_experiment": "experiment",
    "sinkhorn": "solvers",
    "sinkhorn_from_logits": "solvers",
}

__all__ = sorted(_ROOMS)


def __getattr__(name):
    if name not in _ROOMS:
        raise AttributeError(f"module 'jtln_tf' must have one of {', '.join(__all__)}. Received: {name!r}.")
    return getattr(importlib.import_module(f"jtln_tf.{_ROOMS[name]}"), name)


def __dir__():
    return [*globals(), *__all__]
