"""One experiment, from its configuration to its result."""

import logging
import math
import os

from jtln_tf.config import DeviceConfig, InputError
from jtln_tf.data.lost_images import tell_lost_images
from jtln_tf.distribution import Replicas, open_replicas
from jtln_tf.experiment.assembly import assemble, class_names, plain_network
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.experiment.result import evaluate_run, export_run
from jtln_tf.experiment.training import train
from jtln_tf.experiment.worker import open_run
from jtln_tf.experiment.workshop import Workshop
from jtln_tf.export import layout
from jtln_tf.export.checksums import find_damaged_file
from jtln_tf.trainer.memory import gradients_released

_LOG = logging.getLogger("jtln_tf")
# Bytes on the disk for each byte of weights: three checkpoints with the optimizers' moments (the oldest goes once the
# newest is whole), two of weights alone, two exports.
_DISK_PER_WEIGHT = 13


def run_experiment(
    config: ExperimentConfig,
    workdir: str | os.PathLike,
    *,
    resume: bool = False,
    overwrite: bool = False,
    extend: bool = False,
    export: bool = True,
    devices: DeviceConfig | None = None,
    workshop: Workshop | None = None,
) -> dict:
    """Trains, evaluates and exports what a configuration describes.

    Writes nothing into the workdir before both domains, the network and the cost matrix are known to fit together. Each
    of several workers calls this; the chief alone writes.

    Args:
        config: Configuration with both domains named.
        workdir: Folder of the run.
        resume: Go on with an unfinished run of the same configuration; a finished one is returned unchanged.
        overwrite: Replace the run in the folder; with `resume`, only if its configuration differs.
        extend: With `resume`, go on with more steps (even a finished run), or with what else `CHANGEABLE` names.
        export: Write `export/` and compare it with the network after reloading.
        devices: What trains; None is what `DeviceConfig` finds.
        workshop: `Workshop` that this run shares with other runs of the process; None if it is alone.

    Returns:
        The content of `result.json`.

    Raises:
        InputError: If the configuration does not fit the data, or the folder holds another run.
        NonFiniteLossError: If the loss, a gradient or a weight is no longer usable.
        RunInterruptedError: If SIGTERM, SIGHUP or SIGINT came while it trained; the last step is saved then.
        RunStoppedError: If the run cannot be written any further, or an image no longer be read.

    Examples:
        >>> import tempfile, jtln_tf as jt
        >>> from jtln_tf.config import DataConfig, TrainingConfig
        >>> from jtln_tf.costs.config import CostConfig
        >>> data = DataConfig(source="builtin:mnist5k?per_class=5", target="builtin:optdigits?per_class=3", channels=1)
        >>> costs = CostConfig(matrix="uniform")
        >>> config = jt.ExperimentConfig(data=data, training=TrainingConfig(steps=2), cost=costs)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     jt.run_experiment(config, f"{folder}/run", export=False)["steps"]
        2
    """
    config.require_domains()
    devices = devices or DeviceConfig()
    replicas = workshop.replicas if workshop else open_replicas(devices)
    check_devices(config, devices, replicas)
    run = open_run(workdir, config, replicas)
    run.claim(resume=resume, overwrite=overwrite, extend=extend)
    finished = _read_finished(run)
    if finished and (not export or _is_exported(run, finished)):
        return finished
    with replicas.watch(), gradients_released():
        return _take_run(run, devices, workshop or Workshop(keeps_models=False, replicas=replicas), finished, export)


def _take_run(run, devices, workshop, finished, export):
    replicas = workshop.replicas
    # The chief writes nothing before all workers have looked at the folder.
    run.name = replicas.share_text(run.name)
    assembly = assemble(run, workshop)
    with run.begin(class_names(assembly.setup.domains), _needed_bytes(assembly.setup.network)):
        with tell_lost_images(*assembly.setup.domains.values()):
            state = train(run, assembly, devices)
            result = finished or evaluate_run(run, assembly, state)
        run.write_result(result)
        if export and replicas.is_chief:
            network = plain_network(run.config, assembly.setup)
            result["export_difference"] = export_run(run, network, assembly.setup.domains)
            run.write_result(result)
    if replicas.is_chief:
        assembly.trim_cache(run.config.network.cache_limit_gib * 2**30)
    replicas.wait()
    return result


def _read_finished(run):
    """Returns the result of a run that has nothing left to train, or None."""
    finished = run.read_result() if run.is_resumed and not run.is_extended else None
    steps = run.config.training.steps
    if finished and 0 < steps < finished["steps"]:
        raise InputError(f"`steps` must be at least {finished['steps']}, which the run has taken. Received: {steps}.")
    return finished


def _is_exported(run, result):
    # A kill between the export and its check leaves no difference.
    if "export_difference" not in result or not (run.export / layout.VERSION).is_dir():
        return False
    damaged = find_damaged_file(run.export)
    if damaged:
        _LOG.warning("the network is exported anew: %r is damaged or gone.", str(run.export / damaged))
    return not damaged


def check_devices(config: ExperimentConfig, devices: DeviceConfig, replicas: Replicas) -> None:
    """Raises `InputError` if the devices cannot train a configuration together."""
    data, count = config.data, replicas.count
    replicas.check_batches(source_batch=data.source_batch, target_batch=data.target_batch)
    if count > 1 and devices.jit == "on":
        raise InputError(
            "`jit` must be auto or off with several replicas: XLA compiles for one device, and a step has variables on "
            f"each. Received: 'on' with {count} replicas."
        )
    if count > 1 and config.network.precision == "mixed_float16":
        raise InputError(
            "`precision` must be float32 or mixed_bfloat16 with several replicas: Keras's loss scaling looks for an "
            f"overflow on one of them alone. Received: 'mixed_float16' with {count} replicas."
        )


def _needed_bytes(network):
    return _DISK_PER_WEIGHT * sum(math.prod(variable.shape) * 4 for variable in network.variables)
