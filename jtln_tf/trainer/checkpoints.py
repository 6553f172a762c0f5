"""What a run must remember to go on after a kill, and to come back to its best step."""

import dataclasses
import pathlib

import tensorflow as tf

from jtln_tf.config import RunStoppedError


@dataclasses.dataclass
class TrainingState:
    """How far a run has come, beside the weights.

    Attributes:
        stage: Index of the stage.
        step: Steps taken, over all stages.
        seconds: Time spent in training steps.
        best_accuracy: Best target validation accuracy so far; -1 before the first validation.
        best_step: Step of the best.
        epochs_since_best: Validations since the best.
        finished: 1 after the last step, or an early stop; there is nothing left to train.
    """

    stage: int = 0
    step: int = 0
    seconds: float = 0.0
    best_accuracy: float = -1.0
    best_step: int = 0
    epochs_since_best: int = 0
    finished: int = 0


class Checkpoints:
    """The `last` and the `best` checkpoint of a run.

    A checkpoint is written whole before the record of the newest one is changed, and only then is the older removed: a
    kill at any moment leaves one that can be read.
    """

    def __init__(self, folder, model, state, network=None):
        """Prepares to save and restore; touches no file.

        Args:
            folder: Folder of the run's checkpoints.
            model: A compiled `JointModel`; both its optimizers are saved.
            state: `TrainingState`.
            network: The network whose part the model trains; None where that is all of it.
        """
        network = network or model.network
        self._state = state
        self._state_variables = _state_variables()
        optimizers = [optimizer for optimizer in (model.optimizer, model.backbone_optimizer) if optimizer is not None]
        means = [variable for side in model.class_means.values() for variable in side.variables]
        checkpoint = tf.train.Checkpoint(
            state=self._state_variables,
            network=_list_variables(network.variables),
            schedule=_list_variables([model.cost_values, model.has_costs, model.steps_seen, *means]),
            optimizers=[_list_variables(optimizer.variables) for optimizer in optimizers],
        )
        # Weights alone: the best step is gone back to for its network, not to train on from there.
        weights = tf.train.Checkpoint(network=_list_variables(network.variables))
        self._last = tf.train.CheckpointManager(checkpoint, pathlib.Path(folder) / "last", max_to_keep=1)
        self._best = tf.train.CheckpointManager(weights, pathlib.Path(folder) / "best", max_to_keep=1)

    def save_last(self):
        """Saves everything that training needs to go on."""
        for name, variable in self._state_variables.items():
            variable.assign(getattr(self._state, name))
        # The end of a run is saved twice at one step: under another number, so that the first is not written over.
        _save(self._last, self._state.step + self._state.finished)

    def save_best(self):
        """Saves the network as the best so far."""
        _save(self._best, self._state.step)

    def restore_last(self):
        """Goes back to the last checkpoint; returns whether there is one."""
        return _restore(self._last)

    def restore_best(self):
        """Loads the best network; returns whether there is one."""
        return _restore(self._best)


def restore_state(folder):
    """Reads the `TrainingState` of the last checkpoint in a folder; None where there is none."""
    latest = tf.train.latest_checkpoint(pathlib.Path(folder) / "last")
    if latest is None:
        return None
    variables = _state_variables()
    tf.train.Checkpoint(state=variables).restore(latest).expect_partial().assert_existing_objects_matched()
    return TrainingState(**{name: variable.numpy().item() for name, variable in variables.items()})


def restore_network(folder, network):
    """Loads the network of the last checkpoint in a folder; returns whether there is one."""
    latest = tf.train.latest_checkpoint(pathlib.Path(folder) / "last")
    if latest is None:
        return False
    reader = tf.train.Checkpoint(network=_list_variables(network.variables))
    reader.restore(latest).expect_partial().assert_existing_objects_matched()
    return True


def _state_variables():
    kinds = {int: tf.int64, float: tf.float64}
    return {
        field.name: tf.Variable(field.default, dtype=kinds[field.type]) for field in dataclasses.fields(TrainingState)
    }


def _list_variables(variables):
    return [variable.value for variable in variables]


def _save(manager, step):
    try:
        manager.save(checkpoint_number=step)
    except (tf.errors.OpError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RunStoppedError(
            f"A checkpoint must be writable. Received: {manager.directory!r} at step {step} ({reason}). "
            "Hint: make room, then --resume goes on from the checkpoint before."
        ) from error


def _restore(manager):
    if manager.latest_checkpoint is None:
        return False
    # The checkpoint object is the manager's own: every variable of it must be found.
    manager.checkpoint.restore(manager.latest_checkpoint).assert_consumed()
    return True
