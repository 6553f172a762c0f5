import io
import json
import os
import shutil
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from jtln_tf.config import SIDES, InputError, MissingInputError, RunStoppedError
from jtln_tf.data import decode_image
from jtln_tf.export.check import check_export
from jtln_tf.export.layout import ExportOptions
from jtln_tf.export.saved_model import export_network, load_export
from jtln_tf.files import mark_folder
from jtln_tf.network import build_network

NAMES = {"source_classes": list("abcd"), "target_classes": ["x", "ü", "z"]}


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return build_network("small_cnn", 4, 3, image_shape=(12, 12, 3))


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    # TensorFlow takes such a path for a pattern.
    folder = tmp_path_factory.mktemp("export") / "seed[1]" / "model*"
    export_network(network, folder, **NAMES, crop_bottom=2)
    return folder


def encode(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def draw_pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def content(folder):
    return {path: path.is_file() and path.read_bytes() for path in sorted(folder.rglob("*"))}


def test_image_tensors_get_the_probabilities_of_both_heads(network, exported):
    signatures, class_names = load_export(exported)
    images = draw_pixels(5, 12, 12, 3).astype(np.float32)
    served, expected = signatures["pixels"](image=tf.constant(images)), network(images, training=False)
    for head in SIDES:
        np.testing.assert_allclose(served[head], expected[head], atol=1e-6)
        assert class_names[head] == NAMES[f"{head}_classes"]
    np.testing.assert_allclose(served["features"], network.get_layer("backbone")(images), atol=1e-5)
    with pytest.raises(InputError, match="`target_classes` must name the 3 classes of the head. Received: 2 names"):
        export_network(network, exported, source_classes="abcd", target_classes="xy")


@pytest.mark.parametrize("shape", [(12, 12, 3), (1, 1, 12, 12, 3), (1, 8, 8, 3)])
def test_a_wrong_shape_is_an_error_and_no_abort(exported, shape):
    signatures, _ = load_export(exported)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Shape of tensor image"):
        signatures["pixels"](image=tf.zeros(shape))


def test_image_bytes_are_decoded_and_cropped_as_in_training(network, exported):
    shapes = [(20, 30, 3), (40, 15, 3), (9, 9, 3), (16, 16, 1)]
    pixels = [draw_pixels(*shape).squeeze() for shape in shapes]
    images = [decode_image(tf.constant(encode(each[:-2])), 12, 3) for each in pixels]
    expected = network(np.stack(images).astype(np.float32), training=False)["target"].numpy()
    files = [encode(each, kind) for each, kind in zip(pixels, ("PNG", "PNG", "BMP", "PNG"), strict=True)]
    # One bad image costs its own answer only.
    files.insert(2, files[0][:-30])
    signatures, class_names = load_export(exported)
    served = signatures["probabilities"](image_bytes=tf.constant(files))
    np.testing.assert_allclose(np.delete(served["target"], 2, axis=0), expected, atol=1e-6)
    assert served["error"].numpy().tolist() == [b"", b"", b"it is truncated: it breaks off before its end", b"", b""]
    best = signatures["serving_default"](image_bytes=tf.constant(files))
    labels = [[name.decode() for name in row] for row in best["labels"].numpy()]
    assert labels[2] == [""] * 3 and not best["scores"][2].numpy().any()
    order = (-expected).argsort(axis=1)
    assert labels[:2] + labels[3:] == [[class_names["target"][label] for label in row] for row in order]
    scores = np.delete(best["scores"], 2, axis=0)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, order, 1), atol=1e-6)


def test_no_image_is_a_batch(exported):
    signatures, _ = load_export(exported)
    for name in ("serving_default", "probabilities", "features"):
        answer = signatures[name](image_bytes=tf.constant([], tf.string))
        assert {values.shape[0] for values in answer.values()} == {0}


def test_the_source_head_is_dropped_and_few_classes_returned(network, tmp_path):
    export_network(network, tmp_path / "out", **NAMES, options=ExportOptions(heads="target", top_k=2))
    signatures, class_names = load_export(tmp_path / "out")
    image = tf.constant([encode(draw_pixels(9, 9, 3))])
    assert class_names == {"target": NAMES["target_classes"]}
    assert set(signatures["probabilities"](image_bytes=image)) == {"target", "error"}
    assert signatures["serving_default"](image_bytes=image)["labels"].shape == (1, 2)
    kept = sum(np.prod(variable.shape) for variable in signatures["model"].weights)
    assert kept == network.count_params() - network.get_layer("source_logits").count_params()


def test_checksums_card_and_warmup_requests(exported):
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=exported, check=True)
    listed = {line.split("  ", 1)[1] for line in (exported / "SHA256SUMS").read_text().splitlines()}
    files = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    assert files - listed == {"SHA256SUMS", "jtln_tf.json"}
    card = json.loads((exported / "model_card.json").read_text())
    assert card["classes"]["target"] == NAMES["target_classes"] and card["input"]["crop_bottom"] == 2
    assert "| Classes | 3: x, ü, z |" in (exported / "README.md").read_text()
    prediction_log = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = exported / "1" / "assets.extra" / "tf_serving_warmup_requests"
    signatures, _ = load_export(exported)
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        errors = signatures[request.model_spec.signature_name](**inputs)["error"]
        assert errors.numpy().tolist() == [b"", b"", b"it is empty"]


def test_the_check_compares_and_refuses_another_network(network, exported):
    images = draw_pixels(3, 12, 12, 3)
    assert check_export(network, exported, images, crop_bottom=2) < 1e-6
    keras.utils.set_random_seed(1)
    other = build_network("small_cnn", 4, 3, image_shape=(12, 12, 3))
    with pytest.raises(RuntimeError, match="differs from the network"):
        check_export(other, exported, images, crop_bottom=2)


def test_an_export_is_replaced_and_what_a_kill_left_removed(network, exported, tmp_path):
    shutil.copytree(exported, tmp_path / "out")
    (tmp_path / "out.unfinished" / "export" / "half a file").mkdir(parents=True)
    mark_folder(tmp_path / "out.unfinished", "unfinished export")
    export_network(network, tmp_path / "out", source_classes="abcd", target_classes="uvw")
    assert json.loads((tmp_path / "out" / "1" / "assets" / "classes.json").read_text())["target"] == list("uvw")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# Each makes something else of an export.
FOREIGN = {
    "a run": lambda folder: mark_folder(folder, "run"),
    "an export with notes": lambda folder: (folder / "notes.txt").write_text("mine"),
    "an export without a mark": lambda folder: (folder / "jtln_tf.json").unlink(),
    "a link to an export": lambda folder: folder.symlink_to(folder.rename(folder.with_name("real"))),
    "a folder beside": lambda folder: folder.rename(folder.with_name("out.unfinished")),
    "a file": lambda folder: (shutil.rmtree(folder), folder.write_text("mine")),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_not_an_export_of_ours_alone_is_left_as_it_is(case, network, exported, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(exported, folder)
    FOREIGN[case](folder)
    before = content(tmp_path)
    with pytest.raises(InputError, match="`output` must .*which is left as it is") as caught:
        export_network(network, folder, **NAMES)
    assert "\n" not in str(caught.value) and content(tmp_path) == before


def test_a_full_disk_leaves_nothing_of_the_export(network, small_disk):
    (small_disk / "ballast").write_bytes(bytes(900_000))
    with pytest.raises(RunStoppedError, match="An export must be writable. Received: '.*out'") as caught:
        export_network(network, small_disk / "out", **NAMES)
    assert "\n" not in str(caught.value) and os.listdir(small_disk) == ["ballast"]


def test_what_is_no_export_is_refused(exported, tmp_path):
    with pytest.raises(MissingInputError, match="`model` must name an existing folder"):
        load_export(tmp_path / "nothing")
    (tmp_path / "1").mkdir()
    tf.saved_model.save(tf.Module(), str(tmp_path / "1"))
    (tmp_path / "1" / "assets").mkdir(exist_ok=True)
    for text in ("no JSON", "[]", '{"source": ["a"]}', '{"source": ["a"], "target": ["b"]}'):
        (tmp_path / "1" / "assets" / "classes.json").write_text(text)
        with pytest.raises(InputError, match="`model` must be an exported network"):
            load_export(tmp_path)
    shutil.copytree(exported, tmp_path / "cut")
    (data,) = (tmp_path / "cut" / "1" / "variables").glob("*.data-*")
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(InputError, match="`model` must be an exported network"):
        load_export(tmp_path / "cut")
    shutil.copytree(exported, tmp_path / "renamed")
    (tmp_path / "renamed" / "1" / "assets" / "classes.json").write_text('{"target": ["a", "b"]}')
    with pytest.raises(InputError, match="`classes.json` .* {'target': 3}. Received: {'target': 2}"):
        load_export(tmp_path / "renamed")
