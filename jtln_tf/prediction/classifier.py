"""The network of a run, or of an export, as a function from image files to probabilities."""

import hashlib
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from jtln_tf.config import InputError
from jtln_tf.evaluation import require_finite
from jtln_tf.experiment.assembly import load_network
from jtln_tf.experiment.workdir import KIND, Run
from jtln_tf.export.saved_model import load_export
from jtln_tf.export.signatures import Classifier, build_signatures
from jtln_tf.files import marked_version
from jtln_tf.prediction.inputs import ImageFile
from jtln_tf.trainer.checkpoint_file import open_arrays


class ImageClassifier:
    """Gives the content of image files probabilities.

    Attributes:
        class_names: Class names by head.
    """

    def __init__(self, signature: Callable, class_names: dict[str, list[str]], owner: object = None):
        """Takes the signature `probabilities` of an export; `owner` is kept as long, if it holds its variables."""
        self.class_names = class_names
        self._signature, self._owner = signature, owner

    def require_head(self, head: str) -> list[str]:
        """Returns the class names of a head; `InputError` if it was dropped."""
        if head not in self.class_names:
            raise InputError(
                f"`head` must be {' or '.join(self.class_names)}, which the export has. Received: {head!r}."
            )
        return self.class_names[head]

    def classify(self, files: Sequence[ImageFile], head: str) -> tuple[np.ndarray, list[str]]:
        """Returns the probabilities of a head [B, n], and why a file was not read, an empty text if it was.

        Raises:
            NonFiniteLossError: If a probability is NaN.
        """
        answer = self._signature(image_bytes=tf.constant([file.content for file in files], tf.string))
        probabilities, errors = answer[head].numpy(), answer["error"].numpy()
        reasons = [file.reason or error.decode() for file, error in zip(files, errors, strict=True)]
        require_finite(probabilities, f"{len(files)} images from {files[0].path!r} on")
        return probabilities, reasons


def load_classifier(folder: str | os.PathLike) -> ImageClassifier:
    """Loads an export, with or without the folder of its version, or the network of a run.

    Of a run, its own export is loaded if it is whole and has the weights of its last checkpoint, else that checkpoint.

    Raises:
        InputError: If the folder is neither, or the run has no checkpoint.
    """
    if marked_version(folder, KIND) is None:
        signatures, class_names = load_export(folder)
        return ImageClassifier(signatures["probabilities"], class_names, signatures)
    run = Run.open(folder)
    if run.export.is_dir():
        try:
            signatures, class_names = load_export(run.export)
            if _holds_last_weights(run, signatures["model"]):
                return ImageClassifier(signatures["probabilities"], class_names, signatures)
            logging.warning("%s is older than the run's last checkpoint, which is used instead.", run.export)
        except InputError as error:
            logging.warning("the run's last checkpoint is used, and not its export: %s", error)
    network, class_names = load_network(run)
    crop_bottom = run.config.data.target.crop_bottom
    signatures = build_signatures(Classifier(network, class_names), class_names, crop_bottom=crop_bottom, top_k=1)
    return ImageClassifier(signatures["probabilities"], class_names, network)


def _holds_last_weights(run, model):
    """Returns whether a loaded export has the weights of a run's last checkpoint, or the run keeps no checkpoint."""
    path = pathlib.Path(run.checkpoints, "last.npz")
    if not os.path.lexists(path):
        return True
    try:
        with open_arrays(path) as arrays:
            known = {_digest(arrays[name]) for name in arrays if name.startswith("network/")}
    except InputError:
        # Loading the run takes the checkpoint before, or says what is wrong.
        return False
    return all(_digest(weight.numpy()) in known for weight in model.weights)


def _digest(array):
    return array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()
