"""Training through the stages of a method."""

import functools

import numpy as np
import tensorflow as tf

from jtln_tf.batches import count_passes, pair_domains
from jtln_tf.config import SIDES
from jtln_tf.evaluation import evaluate, require_finite
from jtln_tf.experiment.assembly import Assembly
from jtln_tf.experiment.workdir import Run
from jtln_tf.monitoring import CheckpointReport, LogTraining, ProgressBar, RunLog, log_costs
from jtln_tf.network import domain_view
from jtln_tf.trainer.callbacks import Refresh, StepCounter, ValidateAndSave
from jtln_tf.trainer.checkpoints import Checkpoints, TrainingState, read_state
from jtln_tf.trainer.early_stopping import EarlyStopping
from jtln_tf.trainer.stages import compile_for_stage, train_stage

# Training images of which a network without validation images is tried.
_PROBED = 8


def train(run: Run, assembly: Assembly) -> TrainingState:
    """Trains the model through the stages of its method, from the last checkpoint if the run is resumed.

    Returns the final state; the network holds the weights of the last step or, if `EarlyStopping` says so, of the best.
    """
    config, model = run.config, assembly.model
    found = read_state(run.checkpoints) if run.is_resumed else None
    state = found or TrainingState(seconds=assembly.seconds)
    if assembly.costs is not None:
        run.write_costs(assembly.costs)
    stages = config.method.stages(config.training.steps)
    log = RunLog(run.metrics, run.tensorboard, first_step=state.step)
    steps = sum(stage.steps for stage in stages)
    bar = ProgressBar(state, title=config.method.name, steps=steps)
    report = CheckpointReport(state, bar, assembly.setup.domains["target"], steps)
    try:
        for index in range(state.stage, len(stages)):
            compile_for_stage(model, config.training, stages[index])
            checkpoints = Checkpoints(run.checkpoints, model, state, assembly.setup.network)
            if found and index == found.stage:
                checkpoints.restore_last()
            else:
                model.begin_stage(stages[index])
            if state.finished:
                # Only the evaluation or the export was cut short.
                return state
            state.stage = index
            callbacks = _callbacks(run, assembly, stages[index], state, checkpoints, log, report)
            pairs = _pairs(config, assembly, stages[index], state.step)
            train_stage(model, pairs, stages[index], first_step=state.step, callbacks=[*callbacks, bar])
        if not stages:
            # What the start gives is all of the method.
            checkpoints = Checkpoints(run.checkpoints, model, state, assembly.setup.network)
            if found:
                checkpoints.restore_last()
    finally:
        bar.close()
        log.close()
    state.finished = 1
    if stages and _early_stopping(run, assembly, stages[-1]).keeps_best(state) and checkpoints.restore_best():
        state.last_accuracy = state.best_accuracy
    checkpoints.save_last()
    return state


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
        StepCounter(state, training.log_steps),
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
