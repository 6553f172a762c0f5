"""A model through the stages of its method."""

from jtln_tf import workdir as files
from jtln_tf.batches import count_passes, pair_domains
from jtln_tf.evaluation import evaluate
from jtln_tf.experiment.preparation import current_costs
from jtln_tf.monitoring import LogTraining, ProgressBar, RunLog, log_costs
from jtln_tf.trainer import (
    Checkpoints,
    RefreshCosts,
    StepCounter,
    ValidateAndSave,
    compile_for_stage,
    plan_stages,
    restore_state,
    train_stage,
)


def train(config, workdir, model, network, state, source, target, resume):
    """Takes the model through the stages of its method; returns the final `TrainingState`.

    Args:
        config: `ExperimentConfig`.
        workdir: Folder of the run, a `pathlib.Path`.
        model: `JointModel`.
        network: The whole network, of which the model may train only a part.
        state: `TrainingState` to begin with.
        source: Source `Domain` of what the model takes.
        target: Target `Domain` of what the model takes.
        resume: Whether to go on from the last checkpoint in the folder.
    """
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
            checkpoints = Checkpoints(folder, model, state, network)
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
        source_augmentation=data.source_augmentation,
        target_augmentation=data.target_augmentation,
    )


def _callbacks(config, workdir, model, stage, state, checkpoints, log, source, target):
    training = config.training
    batches = {"source": (source, config.data.source_batch), "target": (target, config.data.target_batch)}

    def passes(step):
        since = step - stage.first_step
        return {name: count_passes(*batches[name], since) for name in stage.domains}

    def validate():
        return evaluate(model.network, target, split="validation").accuracy

    callbacks = [StepCounter(state)]
    if training.method == "jtln" and config.cost.cost_refresh_steps:

        def estimate():
            costs = current_costs(config, source, target, model)
            if costs is not None:
                costs.save(workdir / files.COST_FILE)
                log_costs(log, state.step, costs, before=model.costs_in_use())
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
