"""What looks on while a run trains."""

import contextlib
import functools

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.batches import count_passes
from jtln_tf.config import SIDES, DeviceConfig, RunStoppedError
from jtln_tf.distribution import replicas_of
from jtln_tf.evaluation import require_finite
from jtln_tf.experiment.assembly import Assembly
from jtln_tf.experiment.charts import RunCharts
from jtln_tf.experiment.workdir import Run
from jtln_tf.experiment.worker import WorkerLog
from jtln_tf.methods import Stage
from jtln_tf.monitoring import CheckpointReport, LogTraining, Profile, ProgressBar, RunLog, log_costs
from jtln_tf.network import domain_view
from jtln_tf.trainer.callbacks import Refresh, StepCounter, StopBetweenSteps, ValidateAndSave
from jtln_tf.trainer.checkpoints import Checkpoints, TrainingState
from jtln_tf.trainer.early_stopping import EarlyStopping
from jtln_tf.trainer.signals import StopRequest

# Training images of which a network without validation images is tried.
_PROBED = 8


class Watcher:
    """What looks on while a run trains: all workers validate and refresh costs, the chief alone logs and tells."""

    def __init__(
        self,
        run: Run,
        assembly: Assembly,
        devices: DeviceConfig,
        state: TrainingState,
        request: StopRequest | None = None,
    ):
        """Opens the log of the run; a `StopRequest` is acted on between steps."""
        self._run, self._assembly, self._devices, self._state = run, assembly, devices, state
        self._request = request
        self._is_chief = replicas_of(assembly.model).is_chief
        config = run.config
        self._log, self._bar, self._report = WorkerLog(), None, None
        if self._is_chief:
            steps = sum(stage.steps for stage in config.method.stages(config.training.steps))
            self._log = RunLog(run.metrics, run.tensorboard, first_step=state.step, run=run.name)
            self._bar = ProgressBar(state, title=config.method.name, steps=steps)
            batches = {side: getattr(config.data, f"{side}_batch") for side in SIDES}
            self._report = CheckpointReport(state, self._bar, assembly.setup.domains["target"], steps, batches)
        self._charts = RunCharts(run, assembly, state, self._log, is_chief=self._is_chief)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if self._bar is not None:
            self._bar.close()
        # A log that cannot be written either would hide the reason.
        with contextlib.suppress(*([RunStoppedError] if error else [])):
            if error is None:
                self._charts.end()
            self._log.close()

    def callbacks(self, stage: Stage, checkpoints: Checkpoints) -> list[keras.callbacks.Callback]:
        """Returns the Keras callbacks of a stage, in their order."""
        training, log = self._run.config.training, self._log

        def keep_costs(step, costs, before):
            self._run.write_costs(costs)
            if self._is_chief:
                log_costs(log, step, costs, before=before)

        callbacks = [
            StepCounter(self._state, 1 if training.debug_nans else training.log_steps),
            Refresh(self._state, self._assembly.setup, on_costs=keep_costs),
        ]
        if self._is_chief:
            callbacks += self._logging(stage)
        callbacks.append(self._validation(stage, checkpoints))
        if self._is_chief:
            callbacks.append(self._bar)
        if self._request is not None:
            callbacks.append(StopBetweenSteps(self._state, checkpoints, log, self._request))
        return callbacks

    def _logging(self, stage):
        data, inputs = self._run.config.data, self._assembly.setup.inputs
        batches = {side: (inputs[side], getattr(data, f"{side}_batch")) for side in stage.domains}

        def passes(step):
            return {side: count_passes(*batches[side], step - stage.first_step) for side in stage.domains}

        every, images = self._run.config.training.log_steps, sum(batch for _, batch in batches.values())
        logs = [LogTraining(self._state, self._log, every_steps=every, count_passes=passes, images_per_step=images)]
        if self._devices.profile_steps:
            logs.append(Profile(self._state, self._run.tensorboard, self._devices.profile_steps))
        return logs

    def _validation(self, stage, checkpoints):
        model, target = self._assembly.model, self._assembly.setup.inputs["target"]
        self._charts.begin_stage(stage)

        def probe():
            self._charts.validate_source()
            # Not `evaluate`, which would trace the view of the source anew each time.
            side = stage.domains[0]
            images, _ = next(iter(self._assembly.setup.inputs[side].train.batches(_PROBED)))
            predicted = domain_view(model.network, side)(tf.cast(images, tf.float32), training=False)[side]
            require_finite(np.asarray(predicted), f"{len(images)} training images of the {side}")

        validate = self._charts.validate if len(target.validation) else None
        return ValidateAndSave(
            self._state,
            checkpoints,
            self._log,
            validate=validate if "target" in stage.domains else None,
            probe=probe,
            steps_per_epoch=self._run.config.training.steps_per_epoch,
            early_stopping=early_stopping_of(self._run, self._assembly, stage),
            last_step=stage.last_step,
            # Heads that are drawn at random know nothing yet.
            validate_start=validate if self._assembly.setup.has_strong_start else None,
            on_checkpoint=functools.partial(self._report.tell, stage) if self._is_chief else None,
        )


def early_stopping_of(run: Run, assembly: Assembly, stage: Stage) -> EarlyStopping:
    """Returns when a stage of a run stops early."""
    num_images = len(assembly.setup.domains["target"].validation)
    return EarlyStopping(run.config.training.early_stopping_epochs, num_images, stage.first_step + stage.steps // 2)
