import io
import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from jtln_tf.config import SIDES, InputError, MissingInputError, RunStoppedError
from jtln_tf.data import decode_image
from jtln_tf.export.check import check_export
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
    served, expected = signatures["serve_images"](image=tf.constant(images)), network(images, training=False)
    for head in SIDES:
        np.testing.assert_allclose(served[head], expected[head], atol=1e-6)
        assert class_names[head] == NAMES[f"{head}_classes"]
    with pytest.raises(InputError, match="`target_classes` must name the 3 classes of the head. Received: 2 names"):
        export_network(network, exported, source_classes="abcd", target_classes="xy")


@pytest.mark.parametrize("shape", [(12, 12, 3), (1, 1, 12, 12, 3), (1, 8, 8, 3)])
def test_a_wrong_shape_is_an_error_and_no_abort(exported, shape):
    signatures, _ = load_export(exported)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Shape of tensor image"):
        signatures["serve_images"](image=tf.zeros(shape))


def test_image_bytes_are_decoded_and_cropped_as_in_training(network, exported):
    shapes = [(20, 30, 3), (40, 15, 3), (9, 9, 3), (16, 16, 1)]
    pixels = [draw_pixels(*shape).squeeze() for shape in shapes]
    images = [decode_image(tf.constant(encode(each[:-2])), 12, 3) for each in pixels]
    expected = network(np.stack(images).astype(np.float32), training=False)["target"]
    files = [encode(each, kind) for each, kind in zip(pixels, ("PNG", "PNG", "BMP", "PNG"), strict=True)]
    signatures = load_export(exported)[0]["model"].signatures
    # What a server calls by default.
    for name in ("serve_bytes", "serving_default"):
        np.testing.assert_allclose(signatures[name](encoded=tf.constant(files))["target"], expected, atol=1e-6)


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
    assert json.loads((tmp_path / "out" / "classes.json").read_text())["target"] == list("uvw")
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
    tf.saved_model.save(tf.Module(), str(tmp_path))
    for text in ("no JSON", "[]", '{"source": ["a"]}', '{"source": ["a"], "target": ["b"]}'):
        (tmp_path / "classes.json").write_text(text)
        with pytest.raises(InputError, match="`model` must be an exported network"):
            load_export(tmp_path)
