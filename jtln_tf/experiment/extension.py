"""A run that goes on under another plan than it was begun with: more steps, other learning rates."""

import logging

from jtln_tf.config import InputError
from jtln_tf.experiment.config import describe_differences
from jtln_tf.experiment.workdir import Run
from jtln_tf.trainer.checkpoints import TrainingState

_LOG = logging.getLogger("jtln_tf")


def adapt_state(run: Run, found: TrainingState) -> None:
    """Brings the state of a checkpoint to the plan of its run, whose numbers of steps are known; says what changes.

    A run that had ended goes on if it is given more steps, and then may stop early only for what it sees from here on.

    Raises:
        InputError: If more steps have been taken than there are now, or the present stage would begin at another step.
    """
    steps, method = run.config.training.steps, run.config.method
    planned = found.planned or run.begun.training.steps
    if not method.stages(steps):
        return
    if found.step > steps:
        raise InputError(f"`steps` must be at least {found.step}, which the run has taken. Received: {steps}.")
    before, now = method.stages(planned)[found.stage], method.stages(steps)[found.stage]
    if before.first_step != now.first_step:
        raise InputError(
            f"`steps` must stay {planned} once {method.title} is in its stage {found.stage + 1}, which begins at step "
            f"{before.first_step}. Received: {steps}."
        )
    if steps > planned:
        found.finished = found.stopped = found.epochs_since_best = 0
    found.planned = steps
    if changes := describe_differences(run.begun, run.config):
        _LOG.info("the run goes on from step %d with %s.", found.step, "; ".join(changes))
