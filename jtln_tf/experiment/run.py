"""One experiment, from its configuration to its result."""

import math
import pathlib
import time

import keras

from jtln_tf import workdir as files
from jtln_tf.backbones import KERASHUB, check_kerashub_preset
from jtln_tf.config import InputError, MissingInputError
from jtln_tf.costs import load_cost_matrix
from jtln_tf.data.lost_images import tell_lost_images
from jtln_tf.experiment.leaks import count_leaks
from jtln_tf.experiment.preparation import (
    build_model,
    build_network_for,
    check_cost_files,
    load_domains,
    prior_costs,
)
from jtln_tf.experiment.result import evaluate_run, export_run
from jtln_tf.experiment.training import train
from jtln_tf.features.activations import cache_trunk
from jtln_tf.network import cut_network
from jtln_tf.trainer import TrainingState, restore_state

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
        RunStoppedError: If the run cannot be written any further, or an image no longer be read.
    """
    workdir = pathlib.Path(workdir)
    config.require_domains()
    files.check_workdir(workdir, config, resume=resume, overwrite=overwrite)
    finished = files.read_result(workdir) if resume else None
    if finished and (not export or (workdir / files.EXPORT_FOLDER).is_dir()):
        return finished
    saved_costs = workdir / files.COST_FILE
    has_costs = resume and not config.cost.cost_refresh_steps and saved_costs.is_file()
    _check_files(config, needs_costs=config.training.method == "jtln" and not has_costs)
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.training.seed)
    source, target = load_domains(config)
    class_names = {"source": source.class_names, "target": target.class_names}
    _check_domains(config, target)
    if resume:
        files.check_classes(workdir, class_names)
    network, state = build_network_for(config, source, target), TrainingState()
    trunk, trained = None, network
    if config.network.cache_features:
        # Before images are looked at: not every layer can be cut behind.
        trunk, trained = cut_network(network, config.network.freeze_until)
    leaks = count_leaks(source, target)
    started = time.perf_counter()
    if has_costs:
        # Found by the run itself, with the weights that it began with.
        cost_matrix = load_cost_matrix(saved_costs).align(source.class_names, target.class_names)
    else:
        with tell_lost_images(source, target):
            cost_matrix = prior_costs(config, source, target, network, trained)
    last = restore_state(workdir / files.CHECKPOINTS_FOLDER) if finished else None
    # Where nothing is left to train, nothing is looked at.
    is_cached = trunk is not None and not (last and last.finished)
    with tell_lost_images(source, target):
        domains = cache_trunk(config, trunk, source, target) if is_cached else (source, target)
    model = build_model(config, trained)
    state.seconds = time.perf_counter() - started
    weight_bytes = sum(math.prod(variable.shape) * 4 for variable in network.variables)
    needed_bytes = _DISK_PER_WEIGHT * weight_bytes
    files.begin_workdir(workdir, config, class_names, overwrite=overwrite, needed_bytes=needed_bytes)
    if cost_matrix is not None:
        model.set_cost_matrix(cost_matrix)
        cost_matrix.save(workdir / files.COST_FILE)
    with tell_lost_images(source, target):
        state = train(config, workdir, model, network, state, *domains, resume)
        result = finished or {**evaluate_run(config, workdir, network, state, source, target), **leaks}
    files.write_json(workdir / files.RESULT_FILE, result)
    if export:
        folder = workdir / files.EXPORT_FOLDER
        result["export_difference"] = export_run(config, folder, network, source, target)
        files.write_json(workdir / files.RESULT_FILE, result)
    return result


def _check_files(config, *, needs_costs):
    """Raises `InputError` where what the configuration names is not there: before any image is read."""
    network = config.network
    is_preset = network.backbone.startswith(KERASHUB)
    named = {
        "backbone": network.backbone if network.backbone.endswith(".keras") and not is_preset else None,
        "weights": network.weights if network.weights not in ("none", "imagenet") else None,
    }
    for name, path in named.items():
        if path is not None and not pathlib.Path(path).is_file():
            raise MissingInputError(f"`{name}` must name an existing file. Received: {path!r}.")
    if is_preset:
        check_kerashub_preset(network.backbone)
    if needs_costs:
        check_cost_files(config.cost)


def _check_domains(config, target):
    """Raises `InputError` where a split that the run will need has no images: before it is begun."""
    if not len(target.test):
        raise InputError(f"The target must have test images. Received: {target.name!r} without any.")
    if config.training.early_stopping_epochs and not len(target.validation):
        raise InputError(
            f"`early_stopping_epochs` needs target validation images. Received: {target.name!r} without any."
        )
