import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import jtln_tf as jt
from jtln_tf.config import InputError, MissingInputError
from jtln_tf.data import decode_image
from jtln_tf.export import check_export, export_network, load_export

SHAPE = (12, 12, 3)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return jt.build_network("small_cnn", 4, 3, image_shape=SHAPE)


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "model"
    export_network(network, folder, source_classes=["a", "b", "c", "d"], target_classes=["x", "ü", "z"])
    return folder


def encode(pixels, kind):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def make_pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_image_tensors_get_the_probabilities_of_both_heads(network, exported):
    signatures, class_names = load_export(exported)
    images = np.stack([make_pixels(12, 12, seed) for seed in range(5)]).astype(np.float32)
    served = signatures["serve_images"](image=tf.constant(images))
    expected = network(images, training=False)
    for head in ("source", "target"):
        np.testing.assert_allclose(served[head], expected[head], atol=1e-6)
        assert served[head].shape == (5, len(class_names[head]))
    assert class_names["target"] == ["x", "ü", "z"]


def test_image_bytes_are_decoded_as_in_training(network, exported):
    signatures, _ = load_export(exported)
    files = [
        encode(make_pixels(20, 30), "PNG"),
        encode(make_pixels(40, 15, 1), "JPEG"),
        encode(make_pixels(9, 9, 2), "BMP"),
        encode(make_pixels(16, 16, 3)[..., 0], "PNG"),
    ]
    served = signatures["serve_bytes"](encoded=tf.constant(files))
    images = np.stack([decode_image(tf.constant(file), 12, 3).numpy() for file in files]).astype(np.float32)
    np.testing.assert_allclose(served["target"], network(images, training=False)["target"], atol=1e-6)


def test_the_bottom_of_image_bytes_is_cut_off_as_in_training(network, tmp_path):
    names = {"source_classes": list("abcd"), "target_classes": list("xyz")}
    export_network(network, tmp_path / "out", **names, crop_bottom=8)
    pixels = make_pixels(40, 30)
    served = load_export(tmp_path / "out")[0]["serve_bytes"](encoded=tf.constant([encode(pixels, "PNG")]))
    image = decode_image(tf.constant(encode(pixels[:-8], "PNG")), 12, 3)
    expected = network(tf.cast(image, tf.float32)[None], training=False)
    np.testing.assert_allclose(served["target"], expected["target"], atol=1e-6)


def test_bytes_are_what_a_server_calls_by_default(exported):
    model = tf.saved_model.load(str(exported))
    assert {"serve_bytes", "serve_images", "serving_default"} <= set(model.signatures)
    served = model.signatures["serving_default"](encoded=tf.constant([encode(make_pixels(12, 12), "PNG")]))
    assert set(served) == {"source", "target"}


def test_the_check_compares_and_refuses_another_network(network, exported):
    images = np.stack([make_pixels(12, 12, seed) for seed in range(3)])
    assert check_export(network, exported, images) < 1e-6
    keras.utils.set_random_seed(1)
    other = jt.build_network("small_cnn", 4, 3, image_shape=SHAPE)
    with pytest.raises(RuntimeError, match="differs from the network"):
        check_export(other, exported, images)


def test_an_export_is_replaced_and_another_folder_is_not(network, tmp_path):
    names = {"source_classes": list("abcd"), "target_classes": list("xyz")}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="`output` must be a new folder or an earlier export"):
        export_network(network, tmp_path / "mine", **names)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    for target_classes in ("xyz", "uvw"):
        export_network(network, tmp_path / "out", source_classes=list("abcd"), target_classes=list(target_classes))
    assert json.loads((tmp_path / "out" / "classes.json").read_text())["target"] == list("uvw")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]


def test_class_names_must_fit_the_heads(network, tmp_path):
    with pytest.raises(InputError, match="`target_classes` must name the 3 classes of the head. Received: 2 names"):
        export_network(network, tmp_path / "out", source_classes=list("abcd"), target_classes=list("xy"))
    assert not (tmp_path / "out").exists()


def test_what_is_no_export_is_refused(tmp_path):
    with pytest.raises(MissingInputError, match="`model` must name an existing folder"):
        load_export(tmp_path / "nothing")
    with pytest.raises(InputError, match="`model` must be an exported network"):
        load_export(tmp_path)
