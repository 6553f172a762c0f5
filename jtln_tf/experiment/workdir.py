"""The folder of a run: what stands in it, and when it may be written. Floor 1; imports no TensorFlow."""

import json
import os
import pathlib
import shutil

from jtln_tf.config import ExperimentConfig, InputError, MissingInputError, describe_differences

CONFIG_FILE = "config.json"
RESULT_FILE = "result.json"
EVALUATION_FILE = "evaluation.json"
COST_FILE = "cost_matrix.npz"
CLASSES_FILE = "classes.json"
CHECKPOINTS_FOLDER = "checkpoints"
TENSORBOARD_FOLDER = "tensorboard"
METRICS_FILE = "metrics.jsonl"
EXPORT_FOLDER = "export"
_OWN_FILES = (CONFIG_FILE, RESULT_FILE, EVALUATION_FILE, COST_FILE, CLASSES_FILE, METRICS_FILE)
_OWN_FOLDERS = (CHECKPOINTS_FOLDER, TENSORBOARD_FOLDER, EXPORT_FOLDER)
_SPARE_BYTES = 16 * 2**20


def check_workdir(workdir, config, *, resume=False, overwrite=False):
    """Checks, without writing, that a run may use a folder.

    Args:
        workdir: Folder of the run; need not exist.
        config: `ExperimentConfig` of the run.
        resume: Whether an unfinished run of the same configuration may be gone on with.
        overwrite: Whether another run's files may be replaced.

    Raises:
        InputError: If the folder cannot be written, or holds another run.
    """
    workdir = pathlib.Path(workdir)
    if resume and overwrite:
        raise InputError("`resume` and `overwrite` exclude each other. Received: both.")
    existing = _nearest_existing(workdir)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"`workdir` must be a folder that can be written. Received: {str(workdir)!r}.")
    if not os.path.exists(workdir / CONFIG_FILE):
        found = [name for name in (*_OWN_FILES, *_OWN_FOLDERS) if os.path.exists(workdir / name)]
        if found:
            raise InputError(
                f"`workdir` must be a new folder or that of a run. Received: {str(workdir)!r}, which holds "
                f"{found[0]!r} but no {CONFIG_FILE}."
            )
        return
    if overwrite:
        return
    differences = describe_differences(read_config(workdir), config)
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise InputError(
            f"`workdir` must not hold a run of another configuration. Received: {str(workdir)!r}, which differs in "
            f"{'; '.join(differences[:3])}{more}. Hint: another folder, or --overwrite."
        )
    if not resume:
        raise InputError(
            f"`workdir` must not hold a run. Received: {str(workdir)!r}. "
            "Hint: --resume goes on with it, --overwrite begins anew."
        )


def begin_workdir(workdir, config, class_names, *, overwrite=False, needed_bytes=0):
    """Makes the folder of a run and writes its configuration and its class names.

    Args:
        workdir: Folder of the run.
        config: `ExperimentConfig`.
        class_names: Lists of class names by domain, `source` and `target`.
        overwrite: Removes the files of an earlier run first; other files stay.
        needed_bytes: What the run is going to write.

    Raises:
        InputError: If the folder cannot be written or the disk is too full; nothing is removed then.
    """
    workdir = pathlib.Path(workdir)
    free, needed = shutil.disk_usage(_nearest_existing(workdir)).free, needed_bytes + _SPARE_BYTES
    if free < needed:
        raise InputError(
            f"`workdir` must have {needed / 2**20:.0f} MiB free. "
            f"Received: {str(workdir)!r} with {free / 2**20:.0f} MiB."
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if overwrite:
            _remove_run(workdir)
        write_whole(workdir / CONFIG_FILE, config.to_json())
        write_json(workdir / CLASSES_FILE, class_names)
    except OSError as error:
        raise InputError(
            f"`workdir` must be a folder that can be written. Received: {str(workdir)!r} ({error.strerror})."
        ) from error


def read_config(workdir):
    """Returns the `ExperimentConfig` of a run.

    Raises:
        MissingInputError: If the folder holds no run.
        InputError: If its configuration cannot be read.
    """
    path = pathlib.Path(workdir) / CONFIG_FILE
    if not path.is_file():
        raise MissingInputError(f"`workdir` must hold a run. Received: {str(workdir)!r} without {CONFIG_FILE}.")
    try:
        return ExperimentConfig.from_json(path.read_text("utf-8"))
    except (InputError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"`workdir` must hold a run that can be read. Received: {str(path)!r}: {error}") from error


def check_classes(workdir, class_names):
    """Checks that the domains still have the classes that a run was begun with.

    Args:
        workdir: Folder of the run.
        class_names: Lists of class names by domain.

    Raises:
        InputError: If a class has gone, come or moved; the heads would name the wrong ones.
    """
    path = pathlib.Path(workdir) / CLASSES_FILE
    if not path.is_file():
        return
    known = json.loads(path.read_text("utf-8"))
    for domain, names in class_names.items():
        changed = sorted(set(known[domain]) ^ set(names))
        if known[domain] != list(names):
            difference = ", ".join(map(repr, changed[:3])) or "none, another order"
            raise InputError(
                f"The {domain} classes must be those of the run. Received: {len(names)} classes, the run has "
                f"{len(known[domain])}; in one of them only: {difference}."
            )


def read_result(workdir):
    """Returns the result of a finished run, or None."""
    path = pathlib.Path(workdir) / RESULT_FILE
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def write_json(path, values):
    """Writes JSON values to a file, whole or not at all."""
    write_whole(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def write_whole(path, content):
    """Writes a file of text or bytes such that a kill leaves the old one or the new one."""
    path = pathlib.Path(path)
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        unfinished.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _nearest_existing(workdir):
    # Path.exists raises for a folder that may not be looked into; os.path.exists does not.
    return next(path for path in (workdir, *workdir.absolute().parents) if os.path.exists(path))


def _remove_run(workdir):
    # The result goes first and the configuration last: a folder half removed is an unfinished run of the old kind.
    for name in (RESULT_FILE, *_OWN_FILES):
        if name != CONFIG_FILE:
            (workdir / name).unlink(missing_ok=True)
    for name in _OWN_FOLDERS:
        shutil.rmtree(workdir / name, ignore_errors=True)
    (workdir / CONFIG_FILE).unlink(missing_ok=True)
