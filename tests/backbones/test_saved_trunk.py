import os
import pathlib

import keras
import numpy as np
import pytest

from jtln_tf.config import InputError
from tests.backbones.trunks import build, draw_images, save_model

layers = keras.layers


def save_classifier(path, *, scale=1.0, activation="softmax", channels=3):
    """A small saved model whose features are known: the means of a 1x1 convolution's channels."""
    conv, top = layers.Conv2D(4, 1), layers.Dense(5, activation=activation)
    save_model(path, layers.Rescaling(scale), conv, layers.GlobalAveragePooling2D(), top, side=16, channels=channels)
    kernel, bias = conv.get_weights()
    return lambda images: (images * scale).mean((1, 2)) @ kernel[0, 0] + bias


@pytest.mark.parametrize(
    ("pixel_range", "change"),
    [("0_255", lambda x: x), ("0_1", lambda x: x / 255), ("-1_1", lambda x: x / 127.5 - 1)],
)
def test_classifier_gives_what_feeds_it_at_another_size(pixel_range, change, tmp_path):
    path = str(tmp_path / "classifier.keras")
    features = save_classifier(path, scale=0.5)
    backbone = build(path, (20, 12, 3), pixel_range=pixel_range)
    images = draw_images(2, 20, 12, 3)
    np.testing.assert_allclose(backbone(images), features(change(images)), rtol=1e-4, atol=1e-3)


def test_gray_images_and_linear_top(tmp_path):
    path = str(tmp_path / "linear.keras")
    save_classifier(path, activation="linear")
    images = draw_images(2, 16, 16, 1)
    expected = keras.saving.load_model(path)(images.repeat(3, -1))
    np.testing.assert_allclose(build(path, (16, 16, 1))(images), expected, rtol=1e-4, atol=1e-3)


def test_map_is_pooled_and_normalization_statistics_survive(tmp_path):
    path = str(tmp_path / "map.keras")
    normalization = layers.Normalization()
    normalization.adapt(draw_images(4, 8, 8, 3))
    model = save_model(path, normalization, layers.Conv2D(6, 3, padding="same"))
    images = draw_images(2, 8, 8, 3, seed=1)
    np.testing.assert_allclose(build(path, (8, 8, 3))(images), model(images).numpy().mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_separate_softmax_and_nested_trunk(tmp_path):
    path = str(tmp_path / "nested.keras")
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 1)], name="inner")
    save_model(path, inner, layers.GlobalAveragePooling2D(), layers.Dense(3), layers.Softmax())
    backbone = build(path, (12, 12, 3), freeze_until="inner")
    images = draw_images(2, 12, 12, 3)
    kernel, bias = inner.get_weights()
    np.testing.assert_allclose(backbone(images), images.mean((1, 2)) @ kernel[0, 0] + bias, rtol=1e-4, atol=1e-3)
    assert backbone.trainable_variables == []


def test_a_nested_model_of_two_inputs_keeps_its_weights(tmp_path):
    inputs = [keras.Input((4,)), keras.Input((4,))]
    joined = keras.Model(inputs, layers.Dense(3)(layers.Add()(inputs)), name="joined")
    joined.trainable = False
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(image))
    model = keras.Model(image, joined([x, x]))
    model.save(tmp_path / "joined.keras")
    backbone, images = build(str(tmp_path / "joined.keras"), (8, 8, 3)), draw_images(2, 8, 8, 3)
    np.testing.assert_allclose(backbone(images), model(images), rtol=1e-4, atol=1e-4)
    # Layers that were frozen in the file are trained again.
    assert len(backbone.trainable_variables) == 4


def test_frozen_batch_norm_keeps_its_statistics(tmp_path):
    path = str(tmp_path / "normalized.keras")
    save_model(path, layers.Conv2D(4, 3), layers.BatchNormalization(name="norm1"), layers.Conv2D(4, 3))
    backbone = build(path, (8, 8, 3), freeze_until="norm1")
    assert len(backbone.trainable_variables) == 2
    before = backbone.get_layer("norm1").get_weights()
    images = draw_images(3, 8, 8, 3)
    np.testing.assert_array_equal(backbone(images, training=True), backbone(images, training=False))
    for value, old in zip(backbone.get_layer("norm1").get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


@pytest.mark.parametrize(
    ("parts", "image_shape", "message"),
    [
        ([layers.Lambda(lambda x: x * 2)], (8, 8, 3), r"must be a saved Keras model.*Lambda"),
        (
            [layers.Flatten(), layers.Dense(4)],
            (9, 9, 3),
            r"rebuilt for images of \[9, 9, 3\]. Received: .*saved for \[8, 8, 3\]",
        ),
        ([layers.Reshape((64, 3))], (8, 8, 3), r"must end in features \[features\] or a map.*\(\[64, 3\]\)"),
        (
            [layers.Conv2D(4, 8), layers.Flatten(), layers.Softmax()],
            (8, 8, 3),
            "must end in features, or in a softmax over a Dense layer.*Flatten",
        ),
    ],
)
def test_what_cannot_be_a_trunk_is_told_in_one_line(parts, image_shape, message, tmp_path):
    save_model(tmp_path / "trunk.keras", *parts)
    with pytest.raises(InputError, match=message) as caught:
        build(str(tmp_path / "trunk.keras"), image_shape)
    assert "\n" not in str(caught.value)


def test_channels_outputs_and_text_are_told(tmp_path):
    path = str(tmp_path / "trunk.keras")
    save_classifier(path, channels=1)
    with pytest.raises(InputError, match=r"`image_shape` must have the 1 channels"):
        build(path, (16, 16, 3))
    image = keras.Input((8, 8, 3))
    keras.Model(image, [layers.Flatten()(image), layers.Flatten()(image)]).save(path)
    with pytest.raises(InputError, match=r"one image input .* and one output. Received: .*2 outputs"):
        build(path, (8, 8, 3))
    pathlib.Path(path).write_text("no model")
    with pytest.raises(InputError, match=r"`backbone` must be a saved Keras model \(.keras\). Received: .*not a zip"):
        build(path, (8, 8, 3))


def test_pretrained_efficientnet_lite_at_128_pixels():
    path = pathlib.Path(os.environ.get("JTLN_SHARED", "")) / "models" / "efficientnet_lite0_imagenet.keras"
    if "JTLN_SHARED" not in os.environ or not path.exists():
        pytest.skip("JTLN_SHARED names no folder with models/efficientnet_lite0_imagenet.keras")
    backbone = build(str(path), (128, 128, 3), freeze_until="block10_bn1")
    saved = keras.saving.load_model(path, compile=False)
    config = saved.get_config()
    config["layers"][0]["config"]["batch_shape"] = (None, 128, 128, 3)
    resized = keras.Model.from_config(config)
    resized.set_weights(saved.get_weights())
    images = draw_images(2, 128, 128, 3)
    np.testing.assert_allclose(backbone(images), resized(images).numpy().mean((1, 2)), rtol=1e-3, atol=1e-4)
    assert 0 < len(backbone.trainable_variables) < len(saved.trainable_variables)
