"""Training through the stages of a method."""

import contextlib
import functools

import numpy as np
import tensorflow as tf

from jtln_tf.batches import count_passes, pair_domains
from jtln_tf.config import SIDES, NonFiniteLossError, RunStoppedError
from jtln_tf.evaluation import evaluate, require_finite
from jtln_tf.experiment.assembly import Assembly
from jtln_tf.experiment.divergence import explain_divergence
from jtln_tf.experiment.workdir import Run
from jtln_tf.monitoring import CheckpointReport, LogTraining, ProgressBar, RunLog, log_costs
from jtln_tf.network import domain_view
from jtln_tf.trainer.callbacks import Refresh, StepCounter, StopBetweenSteps, ValidateAndSave
from jtln_tf.trainer.checkpoints import Checkpoints, TrainingState
from jtln_tf.trainer.early_stopping import EarlyStopping
from jtln_tf.trainer.nan_search import KeepWeights
from jtln_tf.trainer.signals import StopRequest
from jtln_tf.trainer.stages import compile_for_stage, train_stage

# Training images of which a network without validation images is tried.
_PROBED = 8


def train(run: Run, assembly: Assembly) -> TrainingState:
    """Trains the model through the stages of its method, from the last checkpoint if the run is resumed.

    Returns the final state; the network holds the weights of the last step or, if `EarlyStopping` says so, of the best.

    Raises:
        NonFiniteLossError: If the loss, a gradient or a weight is no longer usable.
        RunInterruptedError: If a signal came; the last step is saved then.
        RunStoppedError: If the disk is full.
    """
    request = StopRequest()
    with request.noted():
        return _train_stages(run, assembly, request)


def _train_stages(run, assembly, request):
    config, model = run.config, assembly.model
    found, stages = assembly.found, config.method.stages(config.training.steps)
    state = found or TrainingState(seconds=assembly.seconds, run=run.name, planned=config.training.steps)
    if assembly.costs is not None:
        run.write_costs(assembly.costs)
    steps, first_stage = sum(stage.steps for stage in stages), state.stage
    with (
        contextlib.closing(ProgressBar(state, title=config.method.name, steps=steps)) as bar,
        _open_log(run, state) as log,
    ):
        report = CheckpointReport(state, bar, assembly.setup.domains["target"], steps)
        for index in range(first_stage, len(stages)):
            compile_for_stage(model, config.training, stages[index])
            checkpoints = Checkpoints(run.checkpoints, model, state, assembly.setup.network)
            if found and index == first_stage:
                checkpoints.restore_last()
            else:
                model.begin_stage(stages[index])
                state.stopped = 0
            if state.finished:
                # Only the evaluation or the export was cut short.
                return state
            state.stage = index
            if state.stopped:
                continue
            callbacks = _callbacks(run, assembly, stages[index], state, checkpoints, log, report)
            callbacks += [bar, StopBetweenSteps(state, checkpoints, log, request)]
            _train_stage(run, assembly, stages[index], state, callbacks)
        if not stages:
            # What the start gives is all of the method.
            checkpoints = Checkpoints(run.checkpoints, model, state, assembly.setup.network)
            if found:
                checkpoints.restore_last()
    state.finished = 1
    if stages and _early_stopping(run, assembly, stages[-1]).keeps_best(state) and checkpoints.restore_best():
        state.last_accuracy = state.best_accuracy
    checkpoints.save_last()
    return state


def _train_stage(run, assembly, stage, state, callbacks):
    config, first_step = run.config, state.step
    kept = KeepWeights() if config.training.debug_nans else None
    if kept:
        callbacks = [kept, *callbacks]
    try:
        pairs = _pairs(config, assembly, stage, first_step)
        train_stage(assembly.model, pairs, stage, first_step=first_step, callbacks=callbacks)
    except NonFiniteLossError as error:
        broken = ""
        if kept and error.step:
            broken = kept.find(next(iter(_pairs(config, assembly, stage, error.step - 1))))
        raise explain_divergence(error, run, assembly, stage, broken) from error


@contextlib.contextmanager
def _open_log(run, state):
    log = RunLog(run.metrics, run.tensorboard, first_step=state.step, run=run.name)
    try:
        yield log
    except BaseException:
        # A log that cannot be written either would hide the reason.
        with contextlib.suppress(RunStoppedError):
            log.close()
        raise
    log.close()


def _pairs(config, assembly, stage, first_step):
    data = config.data
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
    )


def _callbacks(run, assembly, stage, state, checkpoints, log, report):
    training, target = run.config.training, assembly.setup.inputs["target"]
    batches = {side: (assembly.setup.inputs[side], getattr(run.config.data, f"{side}_batch")) for side in stage.domains}

    def passes(step):
        return {side: count_passes(*batches[side], step - stage.first_step) for side in stage.domains}

    def validate():
        return evaluate(assembly.model.network, target, split="validation").accuracy

    def probe():
        # Not `evaluate`, which would trace the network anew each time.
        side = stage.domains[0]
        images, _ = next(iter(assembly.setup.inputs[side].train.dataset(_PROBED)))
        predicted = domain_view(assembly.model.network, side)(tf.cast(images, tf.float32), training=False)[side]
        require_finite(np.asarray(predicted), f"{len(images)} training images of the {side}")

    def keep_costs(step, costs, before):
        run.write_costs(costs)
        log_costs(log, step, costs, before=before)

    validates = "target" in stage.domains and len(target.validation)
    return [
        StepCounter(state, 1 if training.debug_nans else training.log_steps),
        Refresh(state, assembly.setup, on_costs=keep_costs),
        LogTraining(state, log, every_steps=training.log_steps, count_passes=passes),
        ValidateAndSave(
            state,
            checkpoints,
            log,
            validate=validate if validates else None,
            probe=probe,
            steps_per_epoch=training.steps_per_epoch,
            early_stopping=_early_stopping(run, assembly, stage),
            last_step=stage.last_step,
            on_checkpoint=functools.partial(report.tell, stage),
        ),
    ]


def _early_stopping(run, assembly, stage):
    num_images = len(assembly.setup.domains["target"].validation)
    return EarlyStopping(run.config.training.early_stopping_epochs, num_images, stage.first_step + stage.steps // 2)
