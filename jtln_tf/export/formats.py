"""Writes a network in other formats than a SavedModel, and keeps the files that answer like it."""

import contextlib
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

import keras
import numpy as np
import tensorflow as tf

from jtln_tf.config import InputError
from jtln_tf.export.layout import FORMATS, Samples
from jtln_tf.export.signatures import Classifier, save_signatures
from jtln_tf.files import first_line

_LOG = logging.getLogger("jtln_tf")
_RELOAD = pathlib.Path(__file__).with_name("reload.py")
# An int8 network may lose this share of the accuracy; others must name the same classes.
_MOST_LOST = {"litert/int8.tflite": 0.01}
_OPSET = 18


def check_formats(also: tuple[str, ...]) -> None:
    """Raises `InputError` if a package is missing that a format needs."""
    if "onnx" in also:
        try:
            import onnxruntime  # noqa: F401
            import tf2onnx  # noqa: F401
        except ImportError as error:
            hint = "Hint: pip install 'jtln_tf[onnx]'"
            raise InputError(f"`also` must not name onnx without its packages. Received: {error}. {hint}.") from error


def write_formats(
    network: keras.Model, classifier: Classifier, folder: pathlib.Path, also: tuple[str, ...], samples: Samples
) -> list[dict]:
    """Writes a network in other formats and compares them with it.

    A file that cannot be made, or whose answers differ too much, is left out with a warning.

    Args:
        network: The network with the heads to keep.
        classifier: The same, as it is served.
        folder: Folder of the export.
        also: Formats of `FORMATS`.
        samples: Images to measure by.

    Returns:
        A row for each file that is kept: its name, the images compared, the share with the same target class, and the
        largest difference of a probability.
    """
    reasons, names = {}, [name for one in also for name in FORMATS[one]]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        try:
            _write(network, classifier, folder / name, samples.representative)
        except OSError:
            raise
        # A converter that does not know a layer raises errors of many kinds.
        except Exception as error:
            reasons[name] = f"{type(error).__name__}: {first_line(error)}"
    answers = _answer(folder, [name for name in names if name not in reasons], samples.images)
    expected = np.concatenate([classifier.pixels(batch)["target"] for batch in _batches(samples.images)])
    rows = []
    for name, answer in answers.items():
        row, reason = _compare(name, answer, expected, samples.labels)
        if reason:
            reasons[name] = reason
        else:
            rows.append(row)
    for name, reason in reasons.items():
        (folder / name).unlink(missing_ok=True)
        _LOG.warning("%s is left out: %s", name, reason)
    return rows


def _write(network, classifier, path, representative):
    if path.suffix == ".keras":
        network.save(path)
    elif path.suffix == ".onnx":
        import tf2onnx

        signature = classifier.pixels.input_signature
        tf2onnx.convert.from_function(classifier.pixels, signature, opset=_OPSET, output_path=str(path))
    else:
        path.write_bytes(_convert_to_litert(classifier, path.stem, representative))


def _convert_to_litert(classifier, precision, representative):
    with tempfile.TemporaryDirectory() as saved:
        # With one signature: the converter cannot read the operations that decode images.
        save_signatures(classifier, {"pixels": classifier.pixels}, pathlib.Path(saved))
        converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=["pixels"])
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            converter.representative_dataset = lambda: (
                {"image": image[None].astype(np.float32)} for image in representative
            )
        with warnings.catch_warnings(), _hide_notes():
            # The converter runs the interpreter of TensorFlow, which has a successor.
            warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated")
            return converter.convert()


@contextlib.contextmanager
def _hide_notes():
    """Hides what C++ code writes on stderr whatever the log level, unless TensorFlow's notes are wanted."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":
        yield
        return
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _answer(folder, names, images):
    """Returns the probabilities [M, m] of each file by its name; an error's text if it cannot answer."""
    with tempfile.TemporaryDirectory() as plain:
        np.save(f"{plain}/images.npy", images)
        # Only Keras's own file needs this package.
        apart = [name for name in names if not name.endswith(".keras")]
        outputs = {name: f"{plain}/{number}.npy" for number, name in enumerate(apart)}
        pairs = [text for name in apart for text in (str(folder / name), outputs[name])]
        command = [sys.executable, "-I", str(_RELOAD), f"{plain}/images.npy", *pairs]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        lines = result.stdout.splitlines()
        reasons = json.loads(lines[-1]) if result.returncode == 0 and lines else {}
        answers = {
            name: np.load(output) if os.path.exists(output) else reasons.get(str(folder / name), "it ended the process")
            for name, output in outputs.items()
        }
    for name in set(names) - set(apart):
        loaded = keras.models.load_model(folder / name)
        answers[name] = np.concatenate([loaded(batch, training=False)["target"] for batch in _batches(images)])
    return answers


def _compare(name, answer, expected, labels):
    """Returns the row of a file, and why it is not to be kept, or None."""
    if isinstance(answer, str):
        return None, first_line(answer)
    row = {
        "file": name,
        "images": len(expected),
        "agreement": float((answer.argmax(1) == expected.argmax(1)).mean()),
        "difference": float(np.abs(answer - expected).max()),
    }
    if name in _MOST_LOST:
        lost = int((expected.argmax(1) == labels).sum()) - int((answer.argmax(1) == labels).sum())
        row["accuracy_lost"] = lost / len(expected)
        is_kept = lost <= _MOST_LOST[name] * len(expected)
        return row, None if is_kept else f"it loses {100 * row['accuracy_lost']:.1f} points of accuracy"
    different = round((1 - row["agreement"]) * len(expected))
    return row, f"it names another class for {different} of {len(expected)} images" if different else None


def _batches(images, size=64):
    return (tf.cast(images[start : start + size], tf.float32) for start in range(0, len(images), size))
