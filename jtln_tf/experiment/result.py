"""A trained network to the figures of a run, and to its export."""

import platform

import keras
import numpy as np
import tensorflow as tf

from jtln_tf import workdir as files
from jtln_tf.config import parse_domain_spec
from jtln_tf.costs import load_cost_matrix
from jtln_tf.evaluation import evaluate
from jtln_tf.export import check_export, export_network


def evaluate_run(config, workdir, network, state, source, target):
    """Evaluates both heads on the test splits, writes the tables, and returns the figures of `result.json`."""
    on_target = evaluate(network, target)
    trains_source = config.training.method != "target_only"
    on_source = evaluate(network, source, head="source") if trains_source and len(source.test) else None
    tables = {"target": on_target.to_json(), "source": on_source and on_source.to_json()}
    files.write_json(workdir / files.EVALUATION_FILE, tables)
    return {
        "method": config.training.method,
        "target_accuracy": on_target.accuracy,
        "target_macro_accuracy": on_target.macro_accuracy,
        "source_accuracy": on_source and on_source.accuracy,
        "best_validation_accuracy": state.best_accuracy if state.best_accuracy >= 0 else None,
        "best_step": state.best_step or None,
        "steps": state.step,
        "train_seconds": round(state.seconds, 3),
        "seed": config.training.seed,
        "target_test_images": on_target.num_images,
        "target_train_images": len(target.train),
        "source_train_images": len(source.train),
        "bad_images_left_out": source.num_bad_images + target.num_bad_images,
        **_describe_costs(workdir),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }


def export_run(config, folder, network, source, target):
    """Exports the network of a run; returns the largest difference of a probability after reloading.

    Args:
        config: `ExperimentConfig`.
        folder: Folder of the export.
        network: The trained network.
        source: Source `Domain`.
        target: Target `Domain`, whose `crop_bottom` holds for the images that the export is given.
    """
    crop_bottom = parse_domain_spec(config.data.target).crop_bottom
    class_names = {"source_classes": source.class_names, "target_classes": target.class_names}
    export_network(network, folder, **class_names, crop_bottom=crop_bottom)
    images, _ = next(iter(target.test.dataset(32)))
    return check_export(network, folder, images, crop_bottom=crop_bottom)


def _describe_costs(workdir):
    """How many target classes have the source class of the same name nearest, where names are shared at all."""
    path = workdir / files.COST_FILE
    if not path.is_file():
        return {}
    costs = load_cost_matrix(path)
    shared = [name for name in costs.target_classes if name in costs.source_classes]
    if not shared:
        return {}
    nearest = costs.nearest(1)
    return {"namesakes_nearest": sum(nearest[name] == [name] for name in shared), "namesakes": len(shared)}
