"""JSON files of a run with a digest of their content and of the run's name: damage, and another run's file, show."""

import hashlib
import json
import os
import pathlib

from jtln_tf import files
from jtln_tf.config import InputError

_DIGEST = "digest"


def write_sealed(path: pathlib.Path, values: dict, run: str) -> None:
    """Writes a JSON object for the run of a name, whole or not at all."""
    files.write_json(path, {**values, _DIGEST: _digest(values, run)})


def read_sealed(path: pathlib.Path, run: str) -> dict:
    """Returns what `write_sealed` wrote.

    Raises:
        InputError: If the file cannot be read, is damaged, or was written for another run. A file without a digest is
            taken if the run has no name: an older release wrote both.
    """
    try:
        # A pipe would be waited for.
        if not os.path.isfile(path):
            raise ValueError("no file")
        values = json.loads(path.read_text("utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no JSON object")
        digest = values.pop(_DIGEST, None)
        if (run or digest is not None) and digest != _digest(values, run):
            raise ValueError("its digest does not fit: it is damaged, was edited, or is another run's")
        return values
    except (OSError, ValueError, RecursionError) as error:
        reason = files.first_line(error)
        raise InputError(f"`workdir` must hold a run that can be read. Received: {str(path)!r}: {reason}.") from error


def _digest(values, run):
    # As it is read back: JSON has no tuples, and its keys are texts.
    text = json.dumps(json.loads(files.to_json(values)), sort_keys=True)
    return hashlib.sha256(f"{run}\n{text}".encode("utf-8", "backslashreplace")).hexdigest()
