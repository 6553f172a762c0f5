"""Training through the stages of a method."""

from jtln_tf.batches import pair_domains
from jtln_tf.config import SIDES, DeviceConfig, NonFiniteLossError
from jtln_tf.distribution import replicas_of
from jtln_tf.experiment.assembly import Assembly
from jtln_tf.experiment.divergence import explain_divergence
from jtln_tf.experiment.watching import Watcher, early_stopping_of
from jtln_tf.experiment.workdir import Run
from jtln_tf.experiment.worker import WorkerCheckpoints, share_progress
from jtln_tf.trainer.checkpoints import Checkpoints, TrainingState
from jtln_tf.trainer.nan_search import KeepWeights
from jtln_tf.trainer.signals import StopRequest
from jtln_tf.trainer.stages import compile_for_stage, train_stage


def train(run: Run, assembly: Assembly, devices: DeviceConfig) -> TrainingState:
    """Trains the model through the stages of its method, from the last checkpoint if the run is resumed.

    Every worker calls it, on its share of each batch. Returns the final state; the network holds the weights of the
    last step or, if `EarlyStopping` says so, of the best.

    Raises:
        NonFiniteLossError: If the loss, a gradient or a weight is no longer usable.
        RunInterruptedError: If a signal came; the last step is saved then.
        RunStoppedError: If the disk is full, or another worker is gone.
    """
    if replicas_of(assembly.model).num_workers > 1:
        # A signal reaches workers at different steps, so none of them can save the last one.
        return _train_stages(run, assembly, devices, None)
    request = StopRequest()
    with request.noted():
        return _train_stages(run, assembly, devices, request)


def _train_stages(run, assembly, devices, request):
    config, model, replicas = run.config, assembly.model, replicas_of(assembly.model)
    found, stages = assembly.found, config.method.stages(config.training.steps)
    state = found or TrainingState(seconds=assembly.seconds, run=run.name, planned=config.training.steps)
    if assembly.costs is not None:
        run.write_costs(assembly.costs)
    first_stage = state.stage
    with Watcher(run, assembly, devices, state, request) as watcher:
        for index in range(first_stage, len(stages)):
            compile_for_stage(model, config.training, stages[index], jit=devices.jit == "on")
            checkpoints = _open_checkpoints(run, assembly, state, replicas)
            if found and index == first_stage:
                checkpoints.restore_last()
            else:
                model.begin_stage(stages[index], assembly.setup)
                state.stopped = 0
            share_progress(replicas, state, [*model.variables, *model.optimizer.variables])
            if state.finished:
                # Only the evaluation or the export was cut short.
                return state
            state.stage = index
            if state.stopped:
                continue
            _train_stage(run, assembly, stages[index], state, watcher.callbacks(stages[index], checkpoints))
        if not stages:
            # What the start gives is all of the method.
            checkpoints = _open_checkpoints(run, assembly, state, replicas)
            if found:
                checkpoints.restore_last()
        state.finished = 1
        # What looks on draws, at its end, what the network that is kept says.
        if stages and early_stopping_of(run, assembly, stages[-1]).keeps_best(state) and checkpoints.restore_best():
            state.last_accuracy = state.best_accuracy
    share_progress(replicas, state, assembly.setup.network.variables)
    checkpoints.save_last()
    return state


def _open_checkpoints(run, assembly, state, replicas):
    kind = Checkpoints if replicas.is_chief else WorkerCheckpoints
    return kind(run.checkpoints, assembly.model, state, assembly.setup.network)


def _train_stage(run, assembly, stage, state, callbacks):
    config, first_step = run.config, state.step
    kept = KeepWeights() if config.training.debug_nans else None
    if kept:
        callbacks = [kept, *callbacks]
    try:
        replicas = replicas_of(assembly.model)
        pairs = replicas.distribute(_pairs(config, assembly, stage, first_step))
        train_stage(assembly.model, pairs, stage, first_step=first_step, callbacks=callbacks)
    except NonFiniteLossError as error:
        broken = ""
        if kept and error.step:
            broken = kept.find(next(iter(_pairs(config, assembly, stage, error.step - 1))))
        raise explain_divergence(error, run, assembly, stage, broken) from error


def _pairs(config, assembly, stage, first_step):
    data, replicas = config.data, replicas_of(assembly.model)
    return pair_domains(
        *(assembly.setup.inputs[side] if side in stage.domains else None for side in SIDES),
        source_batch=data.source_batch,
        target_batch=data.target_batch,
        first_step=first_step,
        steps=stage.last_step,
        seed=config.training.seed,
        source_augmentation=data.source_augmentation,
        target_augmentation=data.target_augmentation,
        second_view=config.method.uses_second_view,
        shard=(replicas.worker, replicas.num_workers),
    )
