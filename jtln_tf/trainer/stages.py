"""A method is a sequence of stages: which domains are trained on, and for how many steps."""

import dataclasses

from jtln_tf.trainer.optimizers import build_optimizer


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stretch of training with its own learning rate schedule.

    Attributes:
        name: What the stage is called in logs.
        first_step: Step of the run at which it begins.
        steps: Its steps.
        domains: The domains whose images are in a batch.
    """

    name: str
    first_step: int
    steps: int
    domains: tuple[str, ...]

    @property
    def last_step(self):
        """Step of the run at which the stage ends."""
        return self.first_step + self.steps


def plan_stages(method, steps):
    """Returns the stages of a method; all methods take `steps` steps in all.

    Args:
        method: `jtln` and `joint` train on both domains at once (`joint` is `jtln` without the transport loss),
            `consecutive` on the source for the first half and on the target for the rest, `target_only` on the target.
        steps: Steps of the run.
    """
    plans = {
        "jtln": [("joint", ("source", "target"), steps)],
        "joint": [("joint", ("source", "target"), steps)],
        "consecutive": [("source", ("source",), steps // 2), ("target", ("target",), steps - steps // 2)],
        "target_only": [("target", ("target",), steps)],
    }
    stages, first_step = [], 0
    for name, domains, stage_steps in plans[method]:
        stages.append(Stage(name, first_step, stage_steps, domains))
        first_step += stage_steps
    return stages


def compile_for_stage(model, settings, stage):
    """Gives a `JointModel` fresh optimizers with the learning rate schedules of a stage."""
    model.compile(
        optimizer=build_optimizer(settings, settings.head_learning_rate, stage.steps),
        backbone_optimizer=build_optimizer(settings, settings.backbone_learning_rate, stage.steps),
        clip_norm=settings.clip_norm,
    )


def train_stage(model, pairs, stage, *, first_step, callbacks):
    """Trains to the end of a stage, or until a callback stops it.

    Args:
        model: `JointModel`, compiled for the stage.
        pairs: Batches from `first_step` on.
        stage: `Stage`.
        first_step: Step of the run to begin with: the stage's own, or later where a run is resumed.
        callbacks: Keras callbacks; they count steps, so one Keras epoch is the rest of the stage.
    """
    remaining = stage.last_step - first_step
    if remaining > 0:
        model.fit(pairs, epochs=1, steps_per_epoch=remaining, callbacks=callbacks, verbose=0)
