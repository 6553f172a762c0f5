"""The composition root: `run.py` reads like a table of contents. Floor 5."""

from jtln_tf.data.lost_images import tell_lost_images
from jtln_tf.experiment.preparation import (
    build_costs,
    build_network_for,
    check_cost_files,
    load_domains,
    load_trained_network,
)
from jtln_tf.experiment.result import export_run
from jtln_tf.experiment.run import run_experiment

__all__ = [
    "build_costs",
    "build_network_for",
    "check_cost_files",
    "export_run",
    "load_domains",
    "load_trained_network",
    "run_experiment",
    "tell_lost_images",
]
