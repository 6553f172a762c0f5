"""A worker that is not the chief: it trains on its share of each batch, and writes nothing."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator

import keras

from jtln_tf.distribution import Replicas
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.experiment.workdir import Run
from jtln_tf.trainer.checkpoints import Checkpoints, TrainingState


class WorkerRun(Run):
    """The folder of a run as a worker sees it that is not the chief: it is read, never written."""

    def _check_is_free_of_others(self):
        """Leaves the lock to the chief."""

    @contextlib.contextmanager
    def begin(self, class_names: dict[str, tuple[str, ...]], needed_bytes: int) -> Iterator[None]:
        """Leaves the folder to the chief."""
        yield

    def write_result(self, result: dict) -> None:
        """Does nothing."""

    def write_evaluation(self, tables: dict) -> None:
        """Does nothing."""

    def write_costs(self, costs) -> None:
        """Does nothing."""


class WorkerCheckpoints(Checkpoints):
    """Checkpoints that are neither saved nor restored: the chief shares what it restores."""

    def restore_last(self) -> None:
        """Does nothing."""

    def restore_best(self) -> bool:
        """Does nothing; returns that nothing was restored."""
        return False

    def save_last(self) -> None:
        """Does nothing."""

    def save_best(self) -> None:
        """Does nothing."""


def share_progress(replicas: Replicas, state: TrainingState, variables: list[keras.Variable]) -> None:
    """Gives all workers the chief's state and values of variables."""
    if replicas.num_workers == 1:
        return
    replicas.share(variables)
    for name, value in json.loads(replicas.share_text(json.dumps(dataclasses.asdict(state)))).items():
        setattr(state, name, value)


class WorkerLog:
    """A `RunLog` that keeps nothing."""

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Does nothing."""

    def write_image(self, step: int, name: str, pixels) -> None:
        """Does nothing."""

    def flush(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def open_run(folder: str, config: ExperimentConfig, replicas: Replicas) -> Run:
    """Returns the run in a folder, for the chief or for another worker."""
    return Run(folder, config) if replicas.is_chief else WorkerRun(folder, config)
