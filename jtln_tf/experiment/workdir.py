"""The folder of a run: its files, and who may write them. Imports no TensorFlow."""

import contextlib
import json
import logging
import os
import pathlib
import uuid
from collections.abc import Iterator

from jtln_tf import files
from jtln_tf.config import SIDES, InputError, MissingInputError
from jtln_tf.costs.matrix import CostMatrix, load_cost_matrix
from jtln_tf.experiment.config import CHANGEABLE, ExperimentConfig, describe_differences
from jtln_tf.experiment.sealed_json import read_sealed, write_sealed
from jtln_tf.export import layout

_LOG = logging.getLogger("jtln_tf")
KIND, VERSION = "run", 2
_CONFIG_FILE, _CLASSES_FILE, _RESULT_FILE = "config.json", "classes.json", "result.json"
_EVALUATION_FILE, _COSTS_FILE, _METRICS_FILE = "evaluation.json", "cost_matrix.npz", "metrics.jsonl"
REPORT_FILE, MEAN_PLAN_FILE = "report.html", "mean_plan.npz"
# In the order of their removal.
_OWN_FILES = (_CONFIG_FILE, _CLASSES_FILE, _RESULT_FILE, _EVALUATION_FILE, _COSTS_FILE, _METRICS_FILE)
_OWN_FILES += (REPORT_FILE, MEAN_PLAN_FILE)
_LOCK_FILE = "run.lock"
# Names allowed directly inside each subfolder.
_OWN_FOLDERS = {
    "checkpoints": ("last.npz", "previous.npz", "best.npz"),
    "tensorboard": ("events.out.tfevents.*", "plugins", "plugins/*", "projector_*"),
    layout.KIND: layout.OWN_NAMES,
}


class Run:
    """The one owner of a run's folder.

    Writes only into a folder that holds no run yet, or that carries the mark of a run, and removes only its own files
    there. A path may hold any characters.

    Attributes:
        folder: Folder of the run.
        config: Configuration of the run.
        checkpoints: Folder of the checkpoints.
        export: Folder of the export.
        tensorboard: Folder of TensorBoard's files.
        metrics: File of the logged numbers.
        name: Tells this run from every other one; empty for a run that an older release began.
        is_resumed: Whether the run, once it is claimed, goes on with what an earlier process began.
        begun: Configuration that the run in the folder was begun with, once it is claimed to go on with; else None.
    """

    def __init__(self, folder: str | os.PathLike, config: ExperimentConfig):
        """Writes no file."""
        self.folder, self.config = pathlib.Path(folder), config
        self.checkpoints, self.export = self.folder / "checkpoints", self.folder / layout.KIND
        self.tensorboard, self.metrics = self.folder / "tensorboard", self.folder / _METRICS_FILE
        self._costs = self.folder / _COSTS_FILE
        self.is_resumed = self._is_replaced = False
        self._seen = self.begun = None
        self.name = files.marked_name(folder, KIND)

    @classmethod
    def open(cls, folder: str | os.PathLike) -> "Run":
        """Opens an existing run; `InputError` if there is none, or one of another version or that cannot be read."""
        folder = pathlib.Path(folder)
        path = folder / _CONFIG_FILE
        if not os.path.isfile(path):
            raise MissingInputError(f"`workdir` must hold a run. Received: {str(folder)!r} without {_CONFIG_FILE}.")
        if files.marked_version(folder, KIND) != VERSION:
            raise InputError(
                f"`workdir` must hold a run of this version of the program. Received: {str(folder)!r}, which another "
                "version or program wrote. Hint: train in a new folder."
            )
        values = read_sealed(path, files.marked_name(folder, KIND))
        try:
            return cls(folder, ExperimentConfig.from_json(json.dumps(values)))
        except InputError as error:
            raise InputError(f"`workdir` must hold a run that can be read. Received: {str(path)!r}: {error}") from error

    def claim(self, *, resume: bool = False, overwrite: bool = False, extend: bool = False) -> None:
        """Checks, without writing, that this run may use its folder, and settles what `--backbone=auto` stands for.

        Args:
            resume: Whether a run of the same configuration may be continued.
            overwrite: Whether another run's files may be replaced; with `resume`, only if its configuration differs.
            extend: Whether a run that is continued may differ in what `CHANGEABLE` names.

        Raises:
            InputError: If the folder cannot be written, or holds anything that this run may not touch.
        """
        self.is_resumed = self._is_replaced = False
        existing = files.nearest_existing(self.folder)
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise InputError(f"`workdir` must be a folder that can be written. Received: {str(self.folder)!r}.")
        self._check_is_free_of_others()
        # A run that is not replaced says what it was begun with, so that the same call is told from another.
        self.config = self._resolve(resume or not overwrite)
        self._seen, self.begun = self._look(), None
        # A process that is killed while it begins or removes a run leaves a mark without a configuration.
        is_begun = os.path.isfile(self.folder / _CONFIG_FILE)
        if files.marked_version(self.folder, KIND) is None:
            self._check_is_free()
        elif not is_begun or (overwrite and not (resume and self._holds_same())):
            self._check_is_ours()
            self._is_replaced = True
        else:
            self._check_is_same(resume, CHANGEABLE if extend else ())
            self.is_resumed = True
        self.name = files.marked_name(self.folder, KIND) if self.is_resumed else uuid.uuid4().hex

    def _check_is_free_of_others(self):
        # Long before `begin`, which waits for images and costs.
        if os.path.isfile(self.folder / _LOCK_FILE):
            with contextlib.suppress(OSError), files.sole_writer(self.folder / _LOCK_FILE, "workdir"):
                pass

    def _resolve(self, is_kept):
        begun = None
        with contextlib.suppress(InputError):
            begun = Run.open(self.folder).config if is_kept else None
        import tensorflow as tf

        return self.config.resolve(begun, has_gpu=bool(tf.config.list_physical_devices("GPU")))

    def _check_is_free(self):
        found = [name for name in (*_OWN_FILES, *_OWN_FOLDERS) if os.path.lexists(self.folder / name)]
        # Marking such a folder as a run would spoil it.
        if files.holds_mark(self.folder):
            raise InputError(
                f"`workdir` must be a new folder or that of a run. Received: {str(self.folder)!r}, which holds the "
                "mark of something else. Hint: a new folder."
            )
        if found:
            raise InputError(
                f"`workdir` must be a new folder or that of a run of this version. Received: {str(self.folder)!r}, "
                f"which holds {found[0]!r} but no mark of such a run. Hint: a new folder."
            )

    def _look(self):
        """Returns what changes if another process writes a run here."""
        names = (_CONFIG_FILE, _RESULT_FILE, "checkpoints/last.npz")
        # Path.is_file raises for a name that is too long; os.path.isfile does not.
        found = [path.stat() if os.path.isfile(path := self.folder / name) else None for name in names]
        return files.marked_version(self.folder, KIND), [one and (one.st_ino, one.st_mtime_ns) for one in found]

    def _check_is_ours(self):
        for name, own_names in _OWN_FOLDERS.items():
            files.check_marked(self.folder / name, name, own_names, "workdir")

    def _holds_same(self):
        try:
            return Run.open(self.folder).config == self.config
        except InputError:
            return False

    def _check_is_same(self, resume, changeable):
        self.begun = Run.open(self.folder).config
        differences = describe_differences(self.begun, self.config, changeable if resume else ())
        if differences:
            more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
            raise InputError(
                f"`workdir` must not hold a run of another configuration. Received: {str(self.folder)!r}, which "
                f"differs in {'; '.join(differences[:3])}{more}. Hint: another folder, or --overwrite."
            )
        if not resume:
            raise InputError(
                f"`workdir` must not hold a run. Received: {str(self.folder)!r}. "
                "Hint: --resume goes on with it, --overwrite begins anew."
            )

    @property
    def is_extended(self) -> bool:
        """Whether this run takes more steps than it was begun with."""
        return self.is_resumed and self.config.training.steps > self.begun.training.steps

    @property
    def is_finished(self) -> bool:
        """Whether the run that is continued has a result; nothing says yet that it can be read."""
        return self.is_resumed and os.path.lexists(self.folder / _RESULT_FILE)

    @contextlib.contextmanager
    def begin(self, class_names: dict[str, tuple[str, ...]], needed_bytes: int) -> Iterator[None]:
        """Makes the folder, writes what `resume` needs, and keeps other processes out until the end.

        Raises `InputError`, and removes nothing, if the folder cannot be written, is in use, or the disk is too full.
        """
        files.check_room(self.folder, needed_bytes, "workdir")
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(files.sole_writer(self.folder / _LOCK_FILE, "workdir"))
                # Between the claim and now lies the time that finding costs, or caching activations, took.
                if self._look() != self._seen:
                    raise InputError(
                        "`workdir` must not be in use by another process. Received: "
                        f"{str(self.folder)!r}, which one has written meanwhile."
                    )
                if self._is_replaced:
                    self._remove()
                if self.is_extended:
                    # First: they are not of the configuration that follows.
                    (self.folder / _RESULT_FILE).unlink(missing_ok=True)
                    files.remove_marked(self.export, layout.KIND, layout.OWN_NAMES, "workdir")
                files.mark_folder(self.folder, KIND, VERSION, self.name)
                write_sealed(self.folder / _CLASSES_FILE, class_names, self.name)
                # Last: a folder with a configuration holds all that `resume` needs.
                write_sealed(self.folder / _CONFIG_FILE, json.loads(self.config.to_json()), self.name)
                for folder in (self.checkpoints, self.tensorboard):
                    files.check_marked(folder, folder.name, _OWN_FOLDERS[folder.name], "workdir")
                    folder.mkdir(exist_ok=True)
                    files.mark_folder(folder, folder.name)
                for folder, names in ((self.folder, _OWN_FILES), (self.checkpoints, _OWN_FOLDERS["checkpoints"])):
                    for left in [one for one in folder.iterdir() if files.is_left_over(one, names)]:
                        left.unlink()
                unfinished = self.folder / f"{layout.KIND}.unfinished"
                files.remove_marked(unfinished, layout.UNFINISHED_KIND, layout.UNFINISHED_NAMES, "workdir")
            except OSError as error:
                raise InputError(
                    f"`workdir` must be a folder that can be written. Received: {str(self.folder)!r} "
                    f"({error.strerror or files.first_line(error)})."
                ) from error
            yield

    def _remove(self):
        self._check_is_ours()
        for name in _OWN_FILES:
            (self.folder / name).unlink(missing_ok=True)
        for name, own_names in _OWN_FOLDERS.items():
            files.remove_marked(self.folder / name, name, own_names, "workdir")

    def read_classes(self) -> dict[str, list[str]]:
        """Returns the class names of the heads, by side; `InputError` if the file is damaged."""
        path = str(self.folder / _CLASSES_FILE)
        known = read_sealed(self.folder / _CLASSES_FILE, self.name)
        for side in SIDES:
            if not isinstance(known.get(side), list) or not all(isinstance(name, str) for name in known[side]):
                raise InputError(f"`workdir` must hold a run that can be read. Received: {path!r}: no {side} classes.")
        return {side: known[side] for side in SIDES}

    def check_classes(self, class_names: dict[str, tuple[str, ...]]) -> None:
        """Raises `InputError` if a class has gone, come or moved: the heads would name the wrong ones."""
        known = self.read_classes()
        for side, names in class_names.items():
            ours = known[side]
            if ours != list(names):
                changed = sorted(set(ours) ^ set(names))
                difference = ", ".join(map(repr, changed[:3])) or "none, only the order differs"
                raise InputError(
                    f"The {side} classes must be those of the run. Received: {len(names)} classes, the run has "
                    f"{len(ours)}; in one of them only: {difference}."
                )

    def check_is_at_its_beginning(self) -> None:
        """Says that a run without a checkpoint begins anew; `InputError` if it once had one."""
        steps = [entry.get("step") for entry in files.read_json_lines(self.metrics)[0]]
        last = max((step for step in steps if isinstance(step, int)), default=0)
        has_more = any(os.path.lexists(self.folder / name) for name in (_RESULT_FILE, _EVALUATION_FILE))
        # The log, and the best checkpoint, are written before the first checkpoint.
        if has_more or last > self.begun.training.steps_per_epoch:
            raise InputError(
                f"`workdir` must hold a checkpoint of its run. Received: {str(self.folder)!r}, whose checkpoints are "
                f"gone; its log goes up to step {last}. Hint: --overwrite begins anew."
            )
        _LOG.warning("%s holds no checkpoint yet, so training begins at step 0.", self.folder)

    def read_result(self) -> dict | None:
        """Returns the result of a finished run, or None; says so if what is there cannot be used."""
        path = self.folder / _RESULT_FILE
        if not os.path.lexists(path):
            return None
        try:
            result = read_sealed(path, self.name)
            # A digest says as much of a run with a name.
            if not self.name and not {"target_accuracy", "steps"} <= set(result):
                raise InputError(f"A result must hold an accuracy and steps. Received: {str(path)!r}.")
        except InputError as error:
            _LOG.warning("the result is found anew: %s", error)
            return None
        return result

    def write_result(self, result: dict) -> None:
        """Writes the result: the run is finished then."""
        write_sealed(self.folder / _RESULT_FILE, result, self.name)

    def discard_weights(self) -> None:
        """Removes the checkpoints of a finished run, whose result stays."""
        files.remove_marked(self.checkpoints, "checkpoints", _OWN_FOLDERS["checkpoints"], "workdir")

    def write_evaluation(self, tables: dict) -> None:
        """Writes the rows of each class and the confusion matrix by side."""
        files.write_json(self.folder / _EVALUATION_FILE, tables)

    def write_costs(self, costs: CostMatrix) -> None:
        """Writes the class costs that are used from now on."""
        costs.save(self._costs)

    def read_costs(self) -> CostMatrix | None:
        """Returns the class costs that the run used last, or None."""
        return load_cost_matrix(self._costs) if self._costs.is_file() else None
