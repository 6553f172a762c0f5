"""One experiment, from its configuration to its result: the composition root. Floor 5."""

import dataclasses
import functools
import math
import pathlib
import platform
import time

import keras
import numpy as np
import tensorflow as tf

from jtln_tf import workdir as files
from jtln_tf.config import COST_METRICS, InputError, MissingInputError
from jtln_tf.cost_building import build_cost_matrix
from jtln_tf.costs import load_cost_matrix
from jtln_tf.domains import load_domain
from jtln_tf.evaluation import evaluate
from jtln_tf.export import check_export, export_network
from jtln_tf.monitoring import LogTraining, ProgressBar, RunLog
from jtln_tf.network import build_network, features_model, source_predictions_model
from jtln_tf.pairing import augment_images, count_passes, pair_domains
from jtln_tf.trainer import Checkpoints, JointModel, TrainingState, plan_stages, train_stage
from jtln_tf.trainer.callbacks import RefreshCosts, StepCounter, ValidateAndSave
from jtln_tf.trainer.checkpoints import restore_network, restore_state
from jtln_tf.trainer.stages import compile_for_stage

# Bytes on the disk for each byte of weights: two checkpoints with the optimizers' moments (the older one is removed
# after the newer is written), two of weights alone, two exports.
_DISK_PER_WEIGHT = 10


def run_experiment(config, workdir, *, resume=False, overwrite=False, export=True):
    """Trains, evaluates and exports what a configuration describes.

    Nothing is written before both domains, the network and the cost matrix are known to fit together.

    Args:
        config: `ExperimentConfig` with both domains named.
        workdir: Folder of the run.
        resume: Go on with an unfinished run of the same configuration; a finished one is returned as it is.
        overwrite: Replace another run's files.
        export: Write `export/` and compare it with the network after reloading.

    Returns:
        The content of `result.json`, a dict.

    Raises:
        InputError: If the configuration does not fit the data, or the folder holds another run.
        NonFiniteLossError: If the loss is no longer finite.
        RunStoppedError: If the run cannot be written any further.
    """
    workdir = pathlib.Path(workdir)
    config.require_domains()
    files.check_workdir(workdir, config, resume=resume, overwrite=overwrite)
    finished = files.read_result(workdir) if resume else None
    if finished and (not export or (workdir / files.EXPORT_FOLDER).is_dir()):
        return finished
    _check_files(config)
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.training.seed)
    source, target = load_domains(config)
    class_names = {"source": source.class_names, "target": target.class_names}
    _check_domains(config, target)
    if resume:
        files.check_classes(workdir, class_names)
    network = build_network_for(config, source, target)
    model, state = _build_model(config, network), TrainingState()
    started = time.perf_counter()
    cost_matrix = _prior_costs(config, source, target, network)
    state.seconds = time.perf_counter() - started
    weight_bytes = sum(math.prod(variable.shape) * 4 for variable in network.variables)
    needed_bytes = _DISK_PER_WEIGHT * weight_bytes
    files.begin_workdir(workdir, config, class_names, overwrite=overwrite, needed_bytes=needed_bytes)
    if cost_matrix is not None:
        model.set_cost_matrix(cost_matrix)
        cost_matrix.save(workdir / files.COST_FILE)
    state = _train(config, workdir, model, state, source, target, resume)
    result = finished or _evaluate(config, workdir, network, state, source, target)
    files.write_json(workdir / files.RESULT_FILE, result)
    if export:
        folder = workdir / files.EXPORT_FOLDER
        export_network(network, folder, source_classes=source.class_names, target_classes=target.class_names)
        images, _ = next(iter(target.test.dataset(32)))
        result["export_difference"] = check_export(network, folder, images)
        files.write_json(workdir / files.RESULT_FILE, result)
    return result


def load_domains(config):
    """Loads the `(source, target)` domains of a configuration at one image size.

    Raises:
        InputError: If a domain does not fit its specification.
    """
    data = config.data
    is_builtin = data.source.startswith("builtin:") and data.target.startswith("builtin:")
    usual_size = 28 if is_builtin else 227 if config.network.backbone == "alexnet" else 224
    load = functools.partial(
        load_domain,
        seed=config.training.seed,
        image_size=data.image_size or usual_size,
        channels=data.channels,
        data_root=data.data_root,
        cache=data.cache,
        skip_bad_images=data.skip_bad_images,
    )
    return load(data.source), load(data.target, labels_per_class=data.labels_per_class or None)


def build_network_for(config, source, target):
    """Builds the untrained network of a configuration for two domains."""
    network = config.network
    return build_network(
        network.backbone,
        source.num_classes,
        target.num_classes,
        image_shape=target.image_shape,
        weights=network.weights,
        pixel_range=network.pixel_range,
        freeze_until=network.freeze_until,
        head_hidden_units=network.head_hidden_units,
        head_dropout=network.head_dropout,
    )


def load_trained_network(workdir):
    """Loads the network of a run with its domains, for evaluation or export.

    Returns:
        `(config, network, source, target)`.

    Raises:
        InputError: If the folder holds no run, or no checkpoint.
    """
    config = files.read_config(workdir)
    source, target = load_domains(config)
    files.check_classes(workdir, {"source": source.class_names, "target": target.class_names})
    network = build_network_for(config, source, target)
    if not restore_network(pathlib.Path(workdir) / files.CHECKPOINTS_FOLDER, network):
        raise InputError(f"`workdir` must hold a run with a checkpoint. Received: {str(workdir)!r}.")
    return config, network, source, target


def _check_files(config):
    """Raises `InputError` where a file that the configuration names is not there: before any image is read."""
    network, costs = config.network, config.cost.cost_matrix
    named = {
        "backbone": network.backbone if network.backbone.endswith(".keras") else None,
        "weights": network.weights if network.weights not in ("none", "imagenet") else None,
    }
    for name, path in named.items():
        if path is not None and not pathlib.Path(path).is_file():
            raise MissingInputError(f"`{name}` must name an existing file. Received: {path!r}.")
    if config.training.method == "jtln" and costs not in COST_METRICS:
        load_cost_matrix(costs)


def _check_domains(config, target):
    """Raises `InputError` where a split that the run will need has no images: before it is begun."""
    if not len(target.test):
        raise InputError(f"The target must have test images. Received: {target.name!r} without any.")
    if config.training.early_stopping_epochs and not len(target.validation):
        raise InputError(
            f"`early_stopping_epochs` needs target validation images. Received: {target.name!r} without any."
        )


def _build_model(config, network):
    objective = config.objective
    if config.training.method != "jtln":
        objective = dataclasses.replace(objective, transport_weight=0.0)
    return JointModel(network, **dataclasses.asdict(objective))


def _prior_costs(config, source, target, network):
    """The cost matrix known before training; None where the method needs none or estimates it while it trains."""
    if config.training.method != "jtln" or config.cost.cost_refresh_steps:
        return None
    return _estimate_costs(config, source, target, features_model(network))


def _estimate_costs(config, source, target, features):
    data = config.data
    augment = functools.partial(
        augment_images, seed=config.training.seed, random_crop=data.random_crop, random_flip=data.random_flip
    )
    return build_cost_matrix(
        source,
        target,
        config.cost.cost_matrix,
        features_model=features,
        images_per_class=config.cost.cost_images_per_class,
        augment=augment if data.random_crop or data.random_flip else None,
    )


def _train(config, workdir, model, state, source, target, resume):
    """Takes the model through the stages of its method; returns the final `TrainingState`."""
    folder = workdir / files.CHECKPOINTS_FOLDER
    stages = plan_stages(config.training.method, config.training.steps)
    found = restore_state(folder) if resume else None
    state = found or state
    log = RunLog(workdir, first_step=state.step)
    bar = ProgressBar(state, title=config.training.method, steps=config.training.steps)
    try:
        # A finished run whose evaluation or export was cut short takes its network from the last checkpoint.
        for index in range(state.stage, len(stages)):
            stage = stages[index]
            compile_for_stage(model, config.training, stage)
            checkpoints = Checkpoints(folder, model, state)
            if found and index == found.stage:
                checkpoints.restore_last()
            if state.finished:
                return state
            state.stage = index
            callbacks = _callbacks(config, workdir, model, stage, state, checkpoints, log, source, target)
            pairs = _pairs(config, stage, state.step, source, target)
            train_stage(model, pairs, stage, first_step=state.step, callbacks=[*callbacks, bar])
    finally:
        bar.close()
        log.close()
    state.finished = 1
    if config.training.early_stopping_epochs:
        checkpoints.restore_best()
    checkpoints.save_last()
    return state


def _pairs(config, stage, first_step, source, target):
    data = config.data
    return pair_domains(
        source if "source" in stage.domains else None,
        target if "target" in stage.domains else None,
        source_batch=data.source_batch,
        target_batch=data.target_batch,
        first_step=first_step,
        steps=stage.last_step,
        seed=config.training.seed,
        random_crop=data.random_crop,
        random_flip=data.random_flip,
    )


def _callbacks(config, workdir, model, stage, state, checkpoints, log, source, target):
    training, network = config.training, model.network
    batches = {"source": (source, config.data.source_batch), "target": (target, config.data.target_batch)}

    def passes(step):
        since = step - stage.first_step
        return {name: count_passes(*batches[name], since) for name in stage.domains}

    def validate():
        return evaluate(network, target, split="validation").accuracy

    callbacks = [StepCounter(state)]
    if training.method == "jtln" and config.cost.cost_refresh_steps:
        # The source head learns from many labels what tells its classes apart: how it sees the images of a target class
        # relates that class to them better than the features do, from which the target head learns by heart.
        predictions = source_predictions_model(network)

        def estimate():
            costs = _estimate_costs(config, source, target, predictions)
            costs.save(workdir / files.COST_FILE)
            return costs

        callbacks.append(
            RefreshCosts(
                state,
                estimate=estimate,
                every_steps=config.cost.cost_refresh_steps,
                start_step=config.objective.transport_start_step,
            )
        )
    validates = "target" in stage.domains and len(target.validation)
    return [
        *callbacks,
        LogTraining(state, log, every_steps=training.log_steps, count_passes=passes),
        ValidateAndSave(
            state,
            checkpoints,
            log,
            validate=validate if validates else None,
            steps_per_epoch=training.steps_per_epoch,
            patience=training.early_stopping_epochs if validates else 0,
            last_step=stage.last_step,
        ),
    ]


def _evaluate(config, workdir, network, state, source, target):
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
