"""One stage of a method: fresh optimizers, then its steps."""

from collections.abc import Iterable

import keras

from jtln_tf.config import TrainingConfig
from jtln_tf.distribution import replicas_of
from jtln_tf.methods import Stage
from jtln_tf.trainer.model import JointModel
from jtln_tf.trainer.optimizers import build_optimizer


def compile_for_stage(model: JointModel, training: TrainingConfig, stage: Stage, *, jit: bool = False) -> None:
    """Gives a model fresh optimizers with the learning rate schedules of a stage; `jit` compiles its step with XLA."""
    model.stage = stage
    # An earlier run may have trained the same stage.
    if not model.take_up(stage):
        with replicas_of(model).scope():
            model.compile(
                optimizer=build_optimizer(training, training.head_learning_rate, stage.steps),
                backbone_optimizer=build_optimizer(training, training.backbone_learning_rate, stage.steps),
                clip_norm=training.clip_norm,
                jit_compile=jit,
            )
        model.keep_compiled(stage)


def train_stage(model: JointModel, pairs: Iterable, stage: Stage, *, first_step: int, callbacks: list) -> None:
    """Trains to the end of a stage, or until a callback stops it.

    Args:
        model: Compiled for the stage.
        pairs: Batches from `first_step` on.
        stage: `Stage`.
        first_step: Step of the run to begin with: the stage's own, or later if a run is resumed.
        callbacks: Keras callbacks; they count steps, so one Keras epoch is the rest of the stage.
    """
    remaining = stage.last_step - first_step
    if remaining > 0:
        callbacks = _QuietCallbacks(callbacks, add_history=True, model=model, epochs=1, steps=remaining)
        model.fit(pairs, epochs=1, steps_per_epoch=remaining, callbacks=callbacks, verbose=0)


class _QuietCallbacks(keras.callbacks.CallbackList):
    """Hands results on as tensors: Keras's own list fetches every scalar from the device after every step."""

    def on_train_batch_end(self, batch, logs=None):
        """Calls the callbacks; they fetch what they need when they need it."""
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs)
