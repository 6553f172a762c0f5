"""Checkpoints: what a run needs to resume after a kill, and to return to its best step."""

import contextlib
import dataclasses
import pathlib
import zipfile

import keras
import numpy as np

from jtln_tf import files
from jtln_tf.config import InputError, RunStoppedError

_LAST_FILE, _BEST_FILE = "last.npz", "best.npz"
_NEWEST_FIELD = "last_accuracy"


@dataclasses.dataclass
class TrainingState:
    """How far a run has come, beside the weights.

    Attributes:
        stage: Index of the stage.
        step: Steps taken, over all stages.
        seconds: Time spent in training steps and, before them, in finding costs and caching activations.
        best_accuracy: Best target validation accuracy so far; -1 before the first validation.
        best_step: Step of the best.
        epochs_since_best: Validations since the best.
        last_accuracy: Target validation accuracy of the network that is kept: of the last validation, or of the best
            step once training came back to it; -1 before the first validation.
        finished: 1 after the last step, or an early stop; nothing is left to train.
    """

    stage: int = 0
    step: int = 0
    seconds: float = 0.0
    best_accuracy: float = -1.0
    best_step: int = 0
    epochs_since_best: int = 0
    last_accuracy: float = -1.0
    finished: int = 0


class Checkpoints:
    """The `last` and the `best` checkpoint of a run: one `.npz` file each, without pickle.

    A file is written beside and then renamed: a kill at any moment leaves the old one or the new one. Its path is taken
    as it is, whatever characters are in it.
    """

    def __init__(self, folder: str | pathlib.Path, model: keras.Model, state: TrainingState, network: keras.Model):
        """Prepares to save and restore a `JointModel`, and the whole network, of which it may train a part.

        The model must be compiled if it is to train.
        """
        self._folder, self._state = pathlib.Path(folder), state
        self._network = {f"network/{number}": one for number, one in enumerate(network.variables)}
        parts = {
            "optimizer": model.optimizer.variables if model.compiled else [],
            "method": model.method_state.variables if model.method_state is not None else [],
            "teacher": model.teacher.variables if model.teacher is not None else [],
            "steps_seen": [model.steps_seen],
        }
        self._others = {f"{part}/{number}": one for part, all_ in parts.items() for number, one in enumerate(all_)}

    def save_last(self) -> None:
        """Saves all that training needs to go on; raises `RunStoppedError`, and keeps the one before, if it cannot."""
        state = {f"state/{name}": value for name, value in dataclasses.asdict(self._state).items()}
        self._save(_LAST_FILE, {**_to_arrays(self._network), **_to_arrays(self._others), **state})

    def save_best(self) -> None:
        """Saves the network as the best so far; raises like `save_last`."""
        # Weights alone: a run comes back to its best step for the network, not to train on from there.
        self._save(_BEST_FILE, _to_arrays(self._network))

    def restore_last(self) -> None:
        """Restores everything; raises `InputError` if the file is damaged or was written for other variables."""
        _restore(self._folder / _LAST_FILE, {**self._network, **self._others})

    def restore_best(self) -> bool:
        """Loads the best network; returns whether there is one."""
        path = self._folder / _BEST_FILE
        if not path.is_file():
            return False
        _restore(path, self._network)
        return True

    def _save(self, name, arrays):
        path = self._folder / name
        try:
            with files.open_whole(path) as file:
                np.savez(file, **arrays)
        except OSError as error:
            raise RunStoppedError(
                f"A checkpoint must be writable. Received: {str(path)!r} at step {self._state.step} "
                f"({error.strerror}). Hint: make room, then --resume goes on from the checkpoint before."
            ) from error


def read_state(folder: str | pathlib.Path) -> TrainingState | None:
    """Returns the `TrainingState` of the last checkpoint in a folder, or None; raises `InputError` if damaged."""
    path = pathlib.Path(folder) / _LAST_FILE
    if not path.is_file():
        return None
    with _open(path) as arrays:
        names = [field.name for field in dataclasses.fields(TrainingState)]
        if f"state/{_NEWEST_FIELD}" not in arrays:
            # Written before there was this field, which then has its default.
            names.remove(_NEWEST_FIELD)
        return TrainingState(**{name: arrays[f"state/{name}"].item() for name in names})


def restore_network(folder: str | pathlib.Path, network: keras.Model) -> bool:
    """Loads the network of the last checkpoint in a folder; returns whether there is one."""
    path = pathlib.Path(folder) / _LAST_FILE
    if not path.is_file():
        return False
    _restore(path, {f"network/{number}": one for number, one in enumerate(network.variables)})
    return True


def _to_arrays(variables):
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in variables.items()}


def _restore(path, variables):
    with _open(path) as arrays:
        # All are read before the first is set: a damaged file leaves the variables as they are.
        values = {name: arrays[name] for name in variables}
        for name, variable in variables.items():
            if values[name].shape != tuple(variable.shape):
                raise ValueError(f"{name} has the shape {list(values[name].shape)}, not {list(variable.shape)}")
    for name, variable in variables.items():
        variable.assign(values[name])


@contextlib.contextmanager
def _open(path):
    """Opens a checkpoint; tells of damage in one line, also of damage found inside."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        # NumPy and zipfile raise all of these for a damaged file.
        raise InputError(
            f"A checkpoint must be whole and of this run. Received: {str(path)!r} ({files.first_line(error)})."
        ) from error
