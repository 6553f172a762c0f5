"""Joint transfer learning with an optimal transport loss, in TensorFlow and Keras.

A name is loaded when it is first used, so that a program can read its flags and report what is wrong with them without
waiting for TensorFlow.
"""

import importlib

__version__ = "0.1.0"

_MODULES = {
    "CostMatrix": "costs.matrix",
    "Domain": "data.domain",
    "ExperimentConfig": "experiment.config",
    "InputError": "config",
    "JointModel": "trainer.model",
    "build_cost_matrix": "costs.construction",
    "build_network": "network",
    "evaluate": "evaluation",
    "export_network": "export.saved_model",
    "load_cost_matrix": "costs.matrix",
    "load_domain": "data.domain",
    "pair_domains": "batches",
    "run_experiment": "experiment.run",
    "sinkhorn": "ot",
    "sinkhorn_from_logits": "ot",
}

__all__ = sorted(_MODULES)


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module 'jtln_tf' must have one of {', '.join(__all__)}. Received: {name!r}.")
    return getattr(importlib.import_module(f"jtln_tf.{_MODULES[name]}"), name)


def __dir__():
    return [*globals(), *__all__]
