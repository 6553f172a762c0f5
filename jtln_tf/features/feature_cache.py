"""Features kept on the disk."""

import hashlib
import json
import pathlib

import numpy as np

from jtln_tf.files import open_whole


class FeatureCache:
    """Keeps the features of each batch in a file, so that an extraction goes on where a killed one was.

    A file's name depends on everything its content does: other images or another model have other files.
    """

    def __init__(self, folder: str | pathlib.Path, **dependencies: object):
        """Opens a cache; the features depend on `dependencies` (JSON values) besides the model and the images."""
        self._folder = pathlib.Path(folder)
        self._dependencies = json.dumps(dependencies, sort_keys=True)

    def path(self, model_fingerprint: str, rows: np.ndarray) -> pathlib.Path:
        """Returns the file of a batch of the images at `rows`."""
        digest = hashlib.sha256(f"{self._dependencies} {model_fingerprint}".encode())
        digest.update(np.ascontiguousarray(rows, np.int64).tobytes())
        return self._folder / f"features_{digest.hexdigest()[:24]}.npy"

    def read(self, path: pathlib.Path, length: int) -> np.ndarray | None:
        """Returns a view of the features [length, D] in a file, or None if the file is missing or damaged."""
        try:
            features = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return features if features.ndim == 2 and len(features) == length else None

    def write(self, path: pathlib.Path, features: np.ndarray) -> None:
        """Writes the features of a batch, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_whole(path) as file:
            np.save(file, features, allow_pickle=False)
