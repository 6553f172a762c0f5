import os
import pathlib

import keras
import numpy as np
import pytest

from jtln_tf.config import InputError
from tests.backbones.trunks import build, draw_images, save_model

layers = keras.layers


POOL = layers.GlobalAveragePooling2D


@pytest.mark.parametrize(
    ("pixel_range", "change", "top"),
    [
        ("0_255", lambda x: x, []),
        ("0_1", lambda x: x / 255, [POOL(), layers.Dense(5, activation="softmax")]),
        ("-1_1", lambda x: x / 127.5 - 1, [POOL(), layers.Dense(5), layers.Softmax()]),
    ],
)
def test_features_are_pooled_without_a_classifier_at_another_size(pixel_range, change, top, tmp_path):
    path, images = str(tmp_path / "classifier.keras"), draw_images(2, 20, 12, 1)
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 1)], name="inner")
    save_model(path, layers.Normalization(mean=3.0, variance=4.0), inner, *top)
    kernel, bias = inner.get_weights()
    backbone = build(path, (20, 12, 1), pixel_range=pixel_range, freeze_until="inner")
    # The features are the means of a 1x1 convolution's channels.
    expected = (change(images).repeat(3, -1).mean((1, 2)) - 3) / 2 @ kernel[0, 0] + bias
    np.testing.assert_allclose(backbone(images), expected, rtol=1e-4, atol=1e-3)
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


WRONG = {
    "Lambda": ([layers.Lambda(lambda x: x * 2)], "must be a saved Keras model.*Lambda"),
    "fixed size": ([layers.Flatten(), layers.Dense(4)], r"rebuilt for images of \[9, 9, 3\]. .*saved for \[8, 8, 3\]"),
    "tokens": ([layers.Reshape((-1, 3))], r"must end in features \[features\] or a map.*\(\[81, 3\]\)"),
    "softmax": ([layers.Conv2D(4, 8), layers.Softmax()], "in features, or in a softmax over a Dense layer.*Conv2D"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_a_trunk_is_told_in_one_line(case, tmp_path):
    parts, message = WRONG[case]
    save_model(tmp_path / "trunk.keras", *parts)
    with pytest.raises(InputError, match=message) as caught:
        build(str(tmp_path / "trunk.keras"), (9, 9, 3))
    assert "\n" not in str(caught.value)


def test_channels_outputs_and_text_are_told(tmp_path):
    def refuse(message):
        with pytest.raises(InputError, match=message):
            build(path, (8, 8, 3))

    path = str(tmp_path / "trunk.keras")
    save_model(path, layers.Flatten(), channels=1)
    refuse("`image_shape` must have the 1 channels")
    image = keras.Input((8, 8, 3))
    keras.Model(image, [layers.Flatten()(image), layers.Flatten()(image)]).save(path)
    refuse("one image input .* and one output. Received: .*Functional, .*2 outputs")
    pathlib.Path(path).write_text("no model")
    refuse(r"`backbone` must be a saved Keras model \(.keras\). Received: .*not a zip")


def test_pretrained_efficientnet_lite_at_128_pixels():
    path = pathlib.Path(os.environ.get("JTLN_SHARED", "/no")) / "models" / "efficientnet_lite0_imagenet.keras"
    if not path.exists():
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
