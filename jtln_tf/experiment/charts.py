"""What a run shows in TensorBoard beside the means of its steps."""

import logging
import time

from jtln_tf.config import SIDES, RunStoppedError
from jtln_tf.evaluation import evaluate
from jtln_tf.experiment.assembly import Assembly
from jtln_tf.experiment.mean_plan import write_mean_plan
from jtln_tf.experiment.workdir import Run
from jtln_tf.files import first_line
from jtln_tf.methods import Stage
from jtln_tf.monitoring import (
    RunLog,
    SourceValidation,
    draw_batch,
    log_batches,
    log_matches,
    log_opening,
    log_validation,
    write_projector,
)
from jtln_tf.network import features_model
from jtln_tf.trainer.checkpoints import TrainingState

_LOG = logging.getLogger("jtln_tf")
# Of training, and of the processor: the charts of a run's end take one to two seconds.
_LEAST_SECONDS = 150
# Images that are looked at once more at the end, and their share of those trained on, which take longer.
_LEAST_IMAGES, _MOST_IMAGES, _SHARE = 32, 256, 0.01


class RunCharts:
    """Validates both heads and writes what is seen; writes the data, the options and, at the end, pictures."""

    def __init__(self, run: Run, assembly: Assembly, state: TrainingState, log: RunLog, *, is_chief: bool = True):
        """Writes the options and the data of a run that begins; workers but the chief only take part in validation."""
        self._is_chief = is_chief
        self._run, self._assembly, self._state, self._log = run, assembly, state, log
        self._source = self._validation = self._plan = None
        self._began, self._was_finished = time.process_time(), bool(state.finished)
        if is_chief and not state.step:
            domains = assembly.setup.domains
            log_opening(log, run.config.to_values(), {side: _describe(domain) for side, domain in domains.items()})

    def begin_stage(self, stage: Stage) -> None:
        """Prepares to look at the source, if the stage trains on it."""
        self._source, config = None, self._run.config
        if self._is_chief and "source" in stage.domains:
            images = config.data.source_batch * config.training.steps_per_epoch
            self._source = SourceValidation(self._assembly.model.network, self._assembly.setup.inputs["source"], images)

    def validate(self) -> float:
        """Returns the target validation accuracy; writes the loss as well, and what the source head does."""
        found = evaluate(self._assembly.model.network, self._assembly.setup.inputs["target"], split="validation")
        self._validation = found
        self._log.write(self._state.step, {"target_validation_loss": found.loss})
        self.validate_source()
        return found.accuracy

    def validate_source(self) -> None:
        """Writes what the source head does on a sample of its validation images."""
        if self._source is not None and (seen := self._source.measure()):
            self._log.write(self._state.step, seen)

    def end(self) -> None:
        """Finds the mean transport plan and, unless the run was very short, draws what there is to see at its end.

        If that fails, it says so: the run counts.
        """
        # A finished run that is only evaluated has its plan.
        if not self._is_chief or not self._state.finished or self._was_finished:
            return
        self._try("finds no mean transport plan", self._find_plan)
        # Not by the clock alone, which runs on while other processes have the machine.
        if min(self._state.seconds, time.process_time() - self._began) >= _LEAST_SECONDS:
            _LOG.info("drawing the charts ...")
            self._try("gets no pictures of its end", self._draw)
            self._try("gets no projector", self._project)

    def _try(self, what, function):
        try:
            function()
        except RunStoppedError:
            raise
        except Exception as error:
            _LOG.warning("this run %s: %s", what, first_line(error))

    def _find_plan(self):
        self._plan = write_mean_plan(self._run, self._assembly, max(_LEAST_IMAGES, self._affordable_images()))

    def _draw(self):
        data, seed, domains = self._run.config.data, self._run.config.training.seed, self._assembly.setup.domains
        batches = {
            side: draw_batch(domains[side], data.augmentation[side], getattr(data, f"{side}_batch"), seed, number)
            for number, side in enumerate(SIDES)
            # Decoding one image of a split that no step decodes takes a second.
            if domains[side].train.is_decoded or domains is self._assembly.setup.inputs
        }
        log_batches(self._log, self._state.step, batches)
        if (found := self._validation) is not None:
            mistakes = [mistake._asdict() for mistake in found.mistakes]
            log_validation(self._log, self._state.step, domains["target"], found.confusion, mistakes)
        if (costs := self._run.read_costs()) is not None:
            log_matches(self._log, self._state.step, costs, self._plan)

    def _project(self):
        network, inputs = features_model(self._assembly.model.network), self._assembly.setup.inputs
        domains = {side: inputs[side] for side in SIDES}
        write_projector(self._run.tensorboard, network, domains, self._affordable_images())

    def _affordable_images(self):
        """Returns how many images can be looked at in 1 % of the time that training took, at most `_MOST_IMAGES`."""
        data = self._run.config.data
        return int(min(_MOST_IMAGES, _SHARE * self._state.step * (data.source_batch + data.target_batch)))


def _describe(domain):
    counts = (f"{len(domain.split(name)):,} {name}" for name in ("train", "validation", "test"))
    return f"{domain.name}: {domain.num_classes} classes, images: {', '.join(counts)}"
