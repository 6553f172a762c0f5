"""The figures of a finished run, and its export."""

import logging
import platform

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.data import Domain
from jtln_tf.evaluation import evaluate, require_finite
from jtln_tf.experiment.assembly import Assembly
from jtln_tf.experiment.workdir import Run
from jtln_tf.export.check import check_export
from jtln_tf.export.layout import ExportOptions, Samples
from jtln_tf.export.saved_model import export_network
from jtln_tf.features.transferability import score_transferability
from jtln_tf.trainer.checkpoints import TrainingState

_LOG = logging.getLogger("jtln_tf")
# Training images that an int8 network is calibrated on.
_REPRESENTATIVE = 256


def evaluate_run(run: Run, assembly: Assembly, state: TrainingState) -> dict:
    """Evaluates both heads on the test splits, writes the tables, and returns the figures of `result.json`."""
    config, reader, inputs = run.config, assembly.setup.trained, assembly.setup.inputs
    source, target = assembly.setup.domains.values()
    stages = config.method.stages(config.training.steps)
    trains_source = any("source" in stage.domains for stage in stages)
    _LOG.info("testing ...")
    on_target = evaluate(reader, inputs["target"])
    on_source = evaluate(reader, inputs["source"], head="source") if trains_source and len(source.test) else None
    scores = {}
    if not stages and config.method.uses_start and config.network.start == "strong":
        # The network is what every method begins with.
        scores["transferability"] = score_transferability(reader, inputs["target"].train)
    run.write_evaluation({"target": on_target.to_json(), "source": on_source and on_source.to_json()})
    return {
        "method": config.method.name,
        "target_accuracy": on_target.accuracy,
        "target_macro_accuracy": on_target.macro_accuracy,
        "target_loss": on_target.loss,
        "target_top5_accuracy": on_target.top5_accuracy,
        "target_calibration_error": on_target.calibration_error,
        "source_accuracy": on_source and on_source.accuracy,
        "validation_accuracy": state.last_accuracy if state.last_accuracy >= 0 else None,
        "best_validation_accuracy": state.best_accuracy if state.best_accuracy >= 0 else None,
        "best_step": state.best_step or None,
        "steps": state.step,
        "train_seconds": round(state.seconds, 3),
        "seed": config.training.seed,
        "target_test_images": on_target.num_images,
        "target_validation_images": len(target.validation),
        "target_train_images": len(target.train),
        "source_train_images": len(source.train),
        "bad_images_left_out": source.num_bad_images + target.num_bad_images,
        **_describe_costs(run),
        **config.method.describe(assembly.model.method_state),
        **scores,
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
        **assembly.leaks,
    }


def export_run(
    run: Run,
    network: keras.Model,
    domains: dict[str, Domain],
    folder: str | None = None,
    *,
    options: ExportOptions | None = None,
) -> float:
    """Exports the network of a run and reloads it.

    Args:
        run: `Run`.
        network: The trained network.
        domains: `Domain` by side.
        folder: Folder of the export; None is the run's own.
        options: What is exported; None is `ExportOptions()`.

    Returns:
        The largest difference of a probability after reloading.

    Raises:
        NonFiniteLossError: If the network gives NaN; nothing is written then.
    """
    folder, crop_bottom = folder or run.export, run.config.data.target.crop_bottom
    names = {f"{side}_classes": domain.class_names for side, domain in domains.items()}
    images, _ = next(iter(domains["target"].test.batches(32)))
    for probabilities in network(tf.cast(images, tf.float32), training=False).values():
        require_finite(np.asarray(probabilities), f"{len(images)} test images of {domains['target'].name!r}")
    _LOG.info("exporting the network ...")
    samples = _draw_samples(domains["target"]) if options and options.also else None
    facts = _describe_run(run, domains)
    export_network(network, folder, **names, crop_bottom=crop_bottom, options=options, samples=samples, facts=facts)
    return check_export(network, folder, images, crop_bottom=crop_bottom)


def _draw_samples(target):
    """Returns the images by which other formats are measured; those of a tiny target are its training images."""
    compared = target.validation if len(target.validation) else target.train
    few = target.train.take(np.linspace(0, len(target.train) - 1, min(len(target.train), _REPRESENTATIVE), dtype=int))
    pixels = [np.concatenate([images.numpy() for images, _ in split.batches(64)]) for split in (few, compared)]
    return Samples(*pixels, compared.labels)


def _describe_run(run, domains):
    """Returns what the model card says of the data, the training and the accuracy."""
    result = run.read_result() or {}
    accuracy = {
        "accuracy_on_test_images": result.get("target_accuracy"),
        "test_images": result.get("target_test_images"),
        "accuracy_on_validation_images": result.get("validation_accuracy"),
    }
    training = {"method": run.config.method.name, "backbone": run.config.network.backbone}
    return {
        "data": {f"{side}_images": f"{domain.name}, {len(domain.train)} to train" for side, domain in domains.items()},
        "training": {**training, "steps": result.get("steps"), "seed": run.config.training.seed},
        "accuracy": {name: value for name, value in accuracy.items() if value is not None},
    }


def _describe_costs(run):
    """Returns how many target classes have the source class of the same name nearest, if names are shared at all."""
    costs = run.read_costs()
    shared = [name for name in costs.target_classes if name in costs.source_classes] if costs else []
    if not shared:
        return {}
    nearest = costs.nearest(1)
    return {"namesakes_nearest": sum(nearest[name] == [name] for name in shared), "namesakes": len(shared)}
