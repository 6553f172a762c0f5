"""Checkpoints: what a run needs to resume after a kill, and to return to its best step."""

import dataclasses
import logging
import os
import pathlib

import keras
import numpy as np

from jtln_tf import files
from jtln_tf.config import InputError, NonFiniteLossError, RunStoppedError
from jtln_tf.trainer.checkpoint_file import open_arrays, write_arrays

_LOG = logging.getLogger("jtln_tf")
_LAST_FILE, _PREVIOUS_FILE, _BEST_FILE = "last.npz", "previous.npz", "best.npz"


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
        stopped: 1 once the stage was stopped early.
        planned: Step at which the run was to end; 0 if an older release saved it.
        run: Name of the run that it belongs to; empty if an older release saved it.
    """

    stage: int = 0
    step: int = 0
    seconds: float = 0.0
    best_accuracy: float = -1.0
    best_step: int = 0
    epochs_since_best: int = 0
    last_accuracy: float = -1.0
    finished: int = 0
    stopped: int = 0
    planned: int = 0
    run: str = ""


class Checkpoints:
    """The `last` checkpoint of a run, the one before it (`previous`), and its `best`: `.npz` files without pickle.

    A file is written beside, synced and then renamed: a kill at any moment leaves the old one or the new one. Each has
    a digest, which is checked before anything in it is used; if the last one is damaged, the one before is taken. A
    path is taken as it is, whatever characters are in it.

    Attributes:
        saved_step: Step of the last checkpoint that this process saved; None before the first.
    """

    def __init__(self, folder: str | pathlib.Path, model: keras.Model, state: TrainingState, network: keras.Model):
        """Prepares to save and restore a `JointModel`, and the whole network, of which it may train a part.

        The model must be compiled if it is to train.
        """
        self._folder, self._state = pathlib.Path(folder), state
        self._network = _name_network(network)
        parts = {
            "optimizer": model.optimizer.variables if model.compiled else [],
            "method": model.method_state.variables if model.method_state is not None else [],
            "teacher": model.teacher.variables if model.teacher is not None else [],
            "steps_seen": [model.steps_seen],
        }
        self._others = _number(parts)
        self._means = _number({f"mean/{one.name}": one.variables for one in model.metrics})
        self._kept_means = {}
        self.saved_step = None

    def save_last(self) -> None:
        """Saves all that training needs to go on, and keeps the checkpoint before.

        Raises:
            RunStoppedError: If it cannot be written; both checkpoints stay.
            NonFiniteLossError: If something in it is not a finite number.
        """
        arrays = {**_to_arrays(self._network), **_to_arrays(self._others)}
        self._check_finite(arrays)
        self._save(_LAST_FILE, {**arrays, **_to_arrays(self._means)})
        self.saved_step = self._state.step

    def save_best(self) -> None:
        """Saves the network as the best so far; raises like `save_last`."""
        # Weights alone: a run comes back to its best step for the network, not to train on from there.
        arrays = _to_arrays(self._network)
        self._check_finite(arrays)
        self._save(_BEST_FILE, arrays)

    def restore_last(self) -> None:
        """Restores everything; raises `InputError` if no checkpoint of this run is whole.

        If the one before is taken, it becomes the last. A best checkpoint that is damaged is told and forgotten: a
        later step becomes the best.
        """
        path, _ = _find(self._folder, self._state.run)
        self._kept_means = _restore(path, {**self._network, **self._others}, self._means)
        if path.name == _PREVIOUS_FILE:
            self._replace_last(path)
        state = self._state
        if not state.best_step or state.finished:
            return
        try:
            _read_state(self._folder / _BEST_FILE, state.run)
        except InputError as error:
            if state.best_step == state.step:
                self.save_best()
                return
            _LOG.warning("the best step so far, %d, is lost: %s", state.best_step, error)
            state.best_accuracy, state.best_step, state.epochs_since_best = -1.0, 0, 0

    def restore_means(self) -> None:
        """Gives the running means of the log the values that they had; does nothing the second time."""
        for name, value in self._kept_means.items():
            self._means[name].assign(value)
        self._kept_means = {}

    def restore_best(self) -> bool:
        """Loads the best network; returns whether there is one. A damaged one is told, and the present stays."""
        path = self._folder / _BEST_FILE
        if not self._state.best_step:
            return False
        try:
            step = _read_state(path, self._state.run).step
            if step != self._state.best_step:
                raise InputError(f"A best checkpoint must be of step {self._state.best_step}. Received: step {step}.")
            _restore(path, self._network)
        except InputError as error:
            _LOG.warning("the network of the last step is kept, because the best one cannot be used: %s", error)
            return False
        return True

    def _replace_last(self, path):
        last = self._folder / _LAST_FILE
        try:
            os.replace(path, last)
        except OSError as error:
            raise InputError(
                f"A checkpoint must be a file that can be replaced. Received: {str(last)!r} ({error.strerror})."
            ) from error

    def _check_finite(self, arrays):
        broken = [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
        if broken:
            variable = {**self._network, **self._others}[broken[0]]
            raise NonFiniteLossError(
                f"Weights must stay finite. Received: {getattr(variable, 'path', broken[0])!r} at step "
                f"{self._state.step}, which is not saved."
            )

    def _save(self, name, arrays):
        path = self._folder / name
        state = {f"state/{field}": value for field, value in dataclasses.asdict(self._state).items()}
        try:
            with files.open_whole(path) as file:
                write_arrays(file, {**arrays, **state})
                if name == _LAST_FILE:
                    self._keep_before()
        except OSError as error:
            raise RunStoppedError(
                f"A checkpoint must be writable. Received: {str(path)!r} at step {self._state.step} "
                f"({error.strerror}). Hint: make room, then --resume goes on from the checkpoint before."
            ) from error

    def _keep_before(self):
        """Makes the last checkpoint the one before; until it is replaced it has both names."""
        last, previous = self._folder / _LAST_FILE, self._folder / _PREVIOUS_FILE
        if not os.path.isfile(last):
            return
        second_name = previous.with_name(f"{previous.name}.{os.getpid()}.unfinished")
        try:
            os.link(last, second_name)
            os.replace(second_name, previous)
        except OSError:
            # A file system without links. A kill before the new file is renamed leaves the one before.
            os.replace(last, previous)
        finally:
            # Replacing a name by another one of the same file does nothing.
            second_name.unlink(missing_ok=True)


def read_state(folder: str | pathlib.Path, run: str = "") -> TrainingState | None:
    """Returns the `TrainingState` of the last checkpoint in a folder, or None; says so if it is the one before.

    Args:
        folder: Folder of the checkpoints.
        run: Name of the run; empty takes those of any run.

    Raises:
        InputError: If there are checkpoints, and none is whole and of this run.
    """
    found = _find(folder, run, _LOG.warning)
    return found and found[1]


def restore_network(folder: str | pathlib.Path, network: keras.Model, run: str = "") -> bool:
    """Loads the network of the last checkpoint in a folder; returns whether there is one. Like `read_state` else."""
    found = _find(folder, run, _LOG.warning)
    if found is not None:
        _restore(found[0], _name_network(network))
    return found is not None


def _find(folder, run, tell=None):
    """Returns the path and the state of the checkpoint to go on from, or None if there is none."""
    last, previous = pathlib.Path(folder) / _LAST_FILE, pathlib.Path(folder) / _PREVIOUS_FILE
    if not os.path.lexists(last) and not os.path.lexists(previous):
        return None
    try:
        return last, _read_state(last, run)
    except InputError as error:
        if not os.path.lexists(previous):
            raise
        first = error
    try:
        state = _read_state(previous, run)
    except InputError as error:
        raise InputError(f"{first} The one before cannot be used either. Hint: --overwrite begins anew.") from error
    if tell:
        tell("the checkpoint before the last is used, of step %d: %s", state.step, first)
    return previous, state


def _read_state(path, run):
    with open_arrays(path) as arrays:
        names = [field.name for field in dataclasses.fields(TrainingState)]
        # What an older release did not write has its default.
        state = TrainingState(**{name: arrays[f"state/{name}"].item() for name in names if f"state/{name}" in arrays})
        if run and state.run not in ("", run):
            raise ValueError("of another run")
        return state


def _name_network(network):
    return _number({"network": network.variables})


def _number(parts):
    return {f"{part}/{number}": one for part, variables in parts.items() for number, one in enumerate(variables)}


def _to_arrays(variables):
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in variables.items()}


def _restore(path, variables, optional=()):
    """Sets variables; returns the values of the optional ones that there are."""
    with open_arrays(path) as arrays:
        # All are read before the first is set: a damaged file leaves the variables as they are.
        values = {name: arrays[name] for name in variables}
        for name, variable in variables.items():
            if values[name].shape != tuple(variable.shape):
                raise ValueError(f"{name} has the shape {list(values[name].shape)}, not {list(variable.shape)}")
        others = {name: arrays[name] for name in optional if name in arrays}
    for name, variable in variables.items():
        variable.assign(values[name])
    return others
