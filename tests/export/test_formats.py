import logging

import keras
import numpy as np
import pytest

from jtln_tf.config import InputError
from jtln_tf.export.formats import _compare, check_formats, write_formats
from jtln_tf.export.layout import FORMATS, ExportOptions, Samples
from jtln_tf.export.signatures import Classifier
from jtln_tf.network import build_network

# A float16 has 11 bits; an int8 of activations up to 6 has steps of .02.
LARGEST = {"float32": 1e-5, "float16": 0.01, "int8": 0.1, "network": 1e-5}


def draw_bars(count, seed):
    """Noisy images [N, 16, 16, 1] whose bright columns tell the class."""
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 100, (count, 16, 16, 1), np.uint8), rng.integers(0, 3, count)
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 4] = 230
    return images, labels


@pytest.mark.slow
def test_files_of_other_formats_answer_like_the_network(tmp_path, capfd, monkeypatch):
    keras.utils.set_random_seed(0)
    network = build_network("small_cnn", 4, 3, image_shape=(16, 16, 1), neck="identity")
    images, labels = draw_bars(96, 0)
    model = keras.Model(network.input, network.output["target"])
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    model.fit(images, labels, epochs=6, verbose=0)
    formats = list(FORMATS)
    try:
        check_formats(("onnx",))
    except InputError:
        formats.remove("onnx")
    samples = Samples(images, *draw_bars(80, 1))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    rows = write_formats(network, Classifier(network, ["target"]), tmp_path, tuple(formats), samples)
    # A line of the int8 converter, which is no JSON.
    assert "fully_quantize" not in capfd.readouterr().err
    assert [row["file"] for row in rows] == [name for one in formats for name in FORMATS[one]]
    for row in rows:
        assert row["images"] == 80 and row["difference"] < LARGEST[row["file"].split("/")[-1].split(".")[0]]


@pytest.mark.parametrize(
    ("name", "lost", "reason"),
    [
        ("litert/float32.tflite", 0, None),
        ("litert/float32.tflite", 1, "it names another class for 1 of 200 images"),
        ("litert/int8.tflite", 2, None),
        ("litert/int8.tflite", 3, "it loses 1.5 points of accuracy"),
    ],
)
def test_a_file_that_answers_otherwise_is_not_kept(name, lost, reason):
    expected = np.eye(3)[np.arange(200) % 3]
    answer = expected.copy()
    answer[:lost] = np.roll(answer[:lost], 1, axis=1)
    row, found = _compare(name, answer, expected, expected.argmax(1))
    assert found == reason and row["difference"] == (lost > 0)


def test_a_runtime_that_fails_is_told(tmp_path, caplog, monkeypatch):
    network = build_network("small_cnn", 4, 3, image_shape=(8, 8, 1))
    monkeypatch.setattr("jtln_tf.export.formats._convert_to_litert", lambda *_: b"no network")
    samples = Samples(*[np.zeros((2, 8, 8, 1), np.uint8)] * 2, np.zeros(2, int))
    with caplog.at_level(logging.WARNING):
        assert write_formats(network, Classifier(network, ["target"]), tmp_path, ("litert",), samples) == []
    assert not list(tmp_path.rglob("*.tflite"))
    assert "litert/float32.tflite is left out: ValueError" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": "source"}, "`heads` must be one of both, target. Received: 'source'"),
        ({"top_k": 0}, "`top_k` must be at least 1. Received: 0"),
        ({"also": ("pickle",)}, "`also` must be among litert, onnx, keras. Received: 'pickle'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        ExportOptions(**options)
