import os
import pathlib
import re

import keras
import numpy as np
import pytest

from jtln_tf.backbones import BACKBONE_NAMES, LocalResponseNormalization, build_backbone
from jtln_tf.backbones.applications import APPLICATIONS
from jtln_tf.backbones.pixels import scale_pixels
from jtln_tf.config import InputError, MissingInputError
from jtln_tf.network import build_network, cut_network
from tests.conftest import REPOSITORY

# keras 3.15 saves its variables through a NumPy interface that NumPy 2.4 calls deprecated.

# What keras itself does to the pixels, by kind and by module.
PREPROCESS = {
    "caffe": keras.applications.resnet.preprocess_input,
    "torch": keras.applications.densenet.preprocess_input,
    "tf": keras.applications.mobilenet_v2.preprocess_input,
    "none": keras.applications.efficientnet.preprocess_input,
}
# The first prefix that fits names the module.
MODULES = {
    "ConvNeXt": keras.applications.convnext,
    "DenseNet": keras.applications.densenet,
    "EfficientNetV2": keras.applications.efficientnet_v2,
    "EfficientNet": keras.applications.efficientnet,
    "InceptionResNetV2": keras.applications.inception_resnet_v2,
    "InceptionV3": keras.applications.inception_v3,
    "MobileNetV3": keras.applications.mobilenet_v3,
    "MobileNetV2": keras.applications.mobilenet_v2,
    "MobileNet": keras.applications.mobilenet,
    "NASNet": keras.applications.nasnet,
    "VGG16": keras.applications.vgg16,
    "VGG19": keras.applications.vgg19,
    "Xception": keras.applications.xception,
    **{f"ResNet{depth}V2": keras.applications.resnet_v2 for depth in (50, 101, 152)},
    "ResNet": keras.applications.resnet,
}


def draw_images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")


def save_classifier(path, *, scale=1.0, activation="softmax", side=16, channels=3):
    """A small saved model whose features are known: the means of a 1x1 convolution's channels."""
    image = keras.Input((side, side, channels))
    x = keras.layers.Rescaling(scale)(image)
    x = keras.layers.Conv2D(4, 1, name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(5, activation=activation, name="top")(x))
    model.save(path)
    kernel, bias = model.get_layer("conv").get_weights()
    return lambda images: (images * scale).mean((1, 2)) @ kernel[0, 0] + bias


class TestSmallCnn:
    @pytest.mark.parametrize(
        ("image_shape", "num_blocks"), [((8, 8, 1), 3), ((28, 28, 1), 3), ((32, 20, 3), 3), ((64, 64, 3), 4)]
    )
    def test_blocks_follow_the_image_size(self, image_shape, num_blocks):
        backbone = build_backbone("small_cnn", image_shape)
        assert sum(isinstance(layer, keras.layers.Conv2D) for layer in backbone.layers) == num_blocks
        features = backbone(draw_images(2, *image_shape)).numpy()
        assert features.shape == (2, 128)
        assert np.isfinite(features).all() and features.std() > 0

    def test_images_of_a_batch_do_not_see_each_other(self):
        backbone = build_backbone("small_cnn", (12, 12, 1))
        assert backbone.non_trainable_variables == []
        images = draw_images(5, 12, 12, 1)
        together = backbone(images, training=True).numpy()
        alone = np.concatenate([backbone(images[i : i + 1], training=False) for i in range(5)])
        # Batches of another size may sum float32 in another order.
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)

    def test_is_named_and_functional(self):
        backbone = build_backbone("small_cnn", (28, 28, 1))
        assert backbone.name == "backbone"
        assert backbone.input.shape == (None, 28, 28, 1)
        assert backbone.output.shape == (None, 128)


class TestAlexNet:
    def test_normalization_agrees_with_the_formula(self):
        maps = np.random.default_rng(0).normal(0, 100, (2, 3, 3, 7)).astype("float32")
        expected = np.empty_like(maps)
        for channel in range(7):
            window = maps[..., max(0, channel - 2) : channel + 3]
            # Caffe: local_size 5, alpha 1e-4 divided by the window.
            expected[..., channel] = maps[..., channel] / (1 + 1e-4 / 5 * (window**2).sum(-1)) ** 0.75
        actual = LocalResponseNormalization()(maps).numpy()
        np.testing.assert_allclose(actual, expected, rtol=1e-5)

    def test_normalization_keeps_large_half_precision_values_finite(self):
        # 1000 ** 2 is beyond the largest float16.
        actual = LocalResponseNormalization(dtype="float16")(np.full((1, 1, 1, 5), 1000.0, "float16")).numpy()
        assert actual.dtype == np.float16
        assert np.isfinite(actual).all() and (actual > 0).all()

    def test_gray_images_at_the_least_size(self):
        backbone = build_backbone("alexnet", (67, 67, 1))
        images = draw_images(1, 67, 67, 1)
        features = backbone(images).numpy()
        assert features.shape == (1, 4096) and np.isfinite(features).all()
        names = [layer.name for layer in backbone.layers if layer.weights or layer.name.startswith(("norm", "pool"))]
        assert " ".join(names) == "conv1 norm1 pool1 conv2 norm2 pool2 conv3 conv4 conv5 pool5 fc6 fc7"

    def test_gray_equals_its_repetition(self):
        gray = build_backbone("alexnet", (67, 67, 1), freeze_until="conv5")
        rgb = build_backbone("alexnet", (67, 67, 3))
        rgb.set_weights(gray.get_weights())
        images = draw_images(1, 67, 67, 1)
        np.testing.assert_allclose(gray(images), rgb(images.repeat(3, -1)), rtol=1e-4, atol=1e-4)
        assert [layer.name for layer in gray.layers if layer.trainable][0] == "pool5"

    def test_too_small(self):
        with pytest.raises(InputError, match=r"`image_shape` must be at least 67 x 67 pixels for alexnet.*66 x 80"):
            build_backbone("alexnet", (66, 80, 3))


class TestPixelScaling:
    @pytest.mark.parametrize("mode", PREPROCESS)
    def test_agrees_with_keras_and_survives_saving(self, mode, tmp_path):
        image = keras.Input((5, 4, 3))
        # A layer more, because `none` would leave a model without any.
        model = keras.Model(image, keras.layers.Identity()(scale_pixels(image, mode)))
        model.save(tmp_path / "scaling.keras")
        model = keras.saving.load_model(tmp_path / "scaling.keras", safe_mode=True)
        images = draw_images(2, 5, 4, 3)
        # float32 rounding of values up to 255.
        np.testing.assert_allclose(model(images), PREPROCESS[mode](images.copy()), rtol=1e-5, atol=1e-4)

    def test_stays_float32_under_mixed_precision(self):
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_float16")
        try:
            pixels = scale_pixels(keras.Input((5, 4, 3)), "tf")
        finally:
            keras.config.set_dtype_policy(policy)
        assert pixels.dtype == "float32"

    @pytest.mark.parametrize("name", APPLICATIONS)
    def test_each_application_has_the_scaling_of_its_module(self, name):
        module = next(module for prefix, module in MODULES.items() if name.startswith(prefix))
        images = draw_images(1, 2, 2, 3)
        expected = module.preprocess_input(images.copy())
        actual = PREPROCESS[APPLICATIONS[name].scaling](images.copy())
        np.testing.assert_array_equal(actual, expected)

    def test_every_keras_application_is_listed(self):
        constructors = {
            name for name, item in vars(keras.applications).items() if callable(item) and not name.startswith("_")
        }
        assert constructors == set(APPLICATIONS)
        assert set(BACKBONE_NAMES) == {"small_cnn", "alexnet", *APPLICATIONS}


class TestApplications:
    def test_raw_pixels_reach_the_trunk_scaled(self):
        backbone = build_backbone("mobilenetv2", (32, 32, 1))
        trunk = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))
        trunk.set_weights(backbone.get_weights())
        images = draw_images(2, 32, 32, 1)
        expected = trunk(images.repeat(3, -1) / 127.5 - 1).numpy().mean((1, 2))
        np.testing.assert_allclose(backbone(images), expected, rtol=1e-4, atol=1e-5)

    def test_too_small(self):
        with pytest.raises(InputError, match=r"`image_shape` must be at least 75 x 75 pixels for InceptionV3.*74 x 90"):
            build_backbone("inceptionv3", (74, 90, 3))

    def test_failed_download_is_one_line(self, monkeypatch):
        def fail(*args, **kwargs):
            raise Exception("URL fetch failure on https://example.org\nmore")

        monkeypatch.setattr("keras.src.utils.file_utils.get_file", fail)
        with pytest.raises(
            InputError, match=r"`weights`=imagenet must be downloaded by keras for MobileNetV2"
        ) as caught:
            build_backbone("MobileNetV2", (48, 48, 3), weights="imagenet")
        assert "\n" not in str(caught.value)

    def test_imagenet_efficientnet_has_the_graph_of_the_plain_one(self, monkeypatch, tmp_path):
        donor = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
        normalization = next(layer for layer in donor.layers if isinstance(layer, keras.layers.Normalization))
        normalization.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]) ** 2, np.array(0)])
        donor.save_weights(tmp_path / "donor.weights.h5")
        monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *a, **k: str(tmp_path / "donor.weights.h5"))

        official = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
        backbone = build_backbone("EfficientNetB0", (32, 32, 3), weights="imagenet")
        images = draw_images(2, 32, 32, 3)
        expected = official(images).numpy().mean((1, 2))
        np.testing.assert_allclose(backbone(images), expected, rtol=1e-3, atol=1e-5)
        backbone.save_weights(tmp_path / "ours.weights.h5")
        again = build_backbone("EfficientNetB0", (32, 32, 3), weights=str(tmp_path / "ours.weights.h5"))
        np.testing.assert_allclose(again(images), expected, rtol=1e-3, atol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", APPLICATIONS)
    def test_builds_at_its_least_size(self, name):
        keras.backend.clear_session()
        side = APPLICATIONS[name].least_side
        backbone = build_backbone(name.lower(), (side, side, 1))
        features = backbone(draw_images(1, side, side, 1)).numpy()
        assert features.ndim == 2 and np.isfinite(features).all()

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "name", ["ConvNeXtTiny", "EfficientNetV2B0", "MobileNetV3Small", "NASNetMobile", "ResNet50"]
    )
    def test_saved_backbone_is_a_backbone_at_another_size(self, name, tmp_path):
        backbone = build_backbone(name, (32, 32, 3))
        backbone.save(tmp_path / "trunk.keras")
        rebuilt = build_backbone(str(tmp_path / "trunk.keras"), (64, 64, 3))
        direct = build_backbone(name, (64, 64, 3))
        direct.set_weights(backbone.get_weights())
        images = draw_images(1, 64, 64, 3)
        np.testing.assert_allclose(rebuilt(images), direct(images), rtol=1e-3, atol=1e-4)


class TestSavedTrunk:
    @pytest.mark.parametrize(
        ("pixel_range", "change"),
        [("0_255", lambda x: x), ("0_1", lambda x: x / 255), ("-1_1", lambda x: x / 127.5 - 1)],
    )
    def test_classifier_gives_what_feeds_it_at_another_size(self, pixel_range, change, tmp_path):
        path = str(tmp_path / "classifier.keras")
        features = save_classifier(path, scale=0.5)
        backbone = build_backbone(path, (20, 12, 3), pixel_range=pixel_range)
        images = draw_images(2, 20, 12, 3)
        np.testing.assert_allclose(backbone(images), features(change(images)), rtol=1e-4, atol=1e-3)

    def test_gray_images_and_linear_top(self, tmp_path):
        path = str(tmp_path / "linear.keras")
        save_classifier(path, activation="linear")
        backbone = build_backbone(path, (16, 16, 1))
        assert backbone.output.shape == (None, 5)
        saved = keras.saving.load_model(path)
        images = draw_images(2, 16, 16, 1)
        np.testing.assert_allclose(backbone(images), saved(images.repeat(3, -1)), rtol=1e-4, atol=1e-3)

    def test_map_is_pooled_and_normalization_statistics_survive(self, tmp_path):
        path = str(tmp_path / "map.keras")
        normalization = keras.layers.Normalization()
        normalization.adapt(draw_images(4, 8, 8, 3))
        model = keras.Sequential([keras.Input((8, 8, 3)), normalization, keras.layers.Conv2D(6, 3, padding="same")])
        model.save(path)
        images = draw_images(2, 8, 8, 3, seed=1)
        backbone = build_backbone(path, (8, 8, 3))
        np.testing.assert_allclose(backbone(images), model(images).numpy().mean((1, 2)), rtol=1e-4, atol=1e-5)

    def test_separate_softmax_and_nested_trunk(self, tmp_path):
        path = str(tmp_path / "nested.keras")
        inner = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1)], name="inner")
        pooled = [inner, keras.layers.GlobalAveragePooling2D()]
        top = [keras.layers.Dense(3), keras.layers.Softmax()]
        keras.Sequential([keras.Input((8, 8, 3)), *pooled, *top]).save(path)
        backbone = build_backbone(path, (12, 12, 3), freeze_until="inner")
        images = draw_images(2, 12, 12, 3)
        kernel, bias = inner.get_weights()
        np.testing.assert_allclose(backbone(images), images.mean((1, 2)) @ kernel[0, 0] + bias, rtol=1e-4, atol=1e-3)
        assert backbone.trainable_variables == []

    def test_frozen_layers_of_the_file_are_trained_again(self, tmp_path):
        model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1)])
        model.trainable = False
        model.save(tmp_path / "frozen.keras")
        assert len(build_backbone(str(tmp_path / "frozen.keras"), (8, 8, 3)).trainable_variables) == 2

    def test_missing(self, tmp_path):
        with pytest.raises(MissingInputError, match="`backbone` must be an existing file"):
            build_backbone(str(tmp_path / "none.keras"), (8, 8, 3))

    def test_no_model(self, tmp_path):
        path = tmp_path / "text.keras"
        path.write_text("no model")
        with pytest.raises(
            InputError, match=r"`backbone` must be a saved Keras model \(.keras\). Received: .*not a zip"
        ):
            build_backbone(str(path), (8, 8, 3))

    def test_code_in_the_file_is_refused(self, tmp_path):
        path = tmp_path / "lambda.keras"
        keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x * 2)]).save(path)
        with pytest.raises(InputError, match=r"must be a saved Keras model.*Lambda") as caught:
            build_backbone(str(path), (8, 8, 3))
        assert "\n" not in str(caught.value)

    def test_two_outputs(self, tmp_path):
        image = keras.Input((8, 8, 3))
        x = keras.layers.Flatten()(image)
        keras.Model(image, [keras.layers.Dense(2)(x), keras.layers.Dense(2)(x)]).save(tmp_path / "two.keras")
        with pytest.raises(InputError, match=r"one image input .* and one output. Received: .*2 outputs"):
            build_backbone(str(tmp_path / "two.keras"), (8, 8, 3))

    def test_image_size_is_fixed_by_a_dense_layer(self, tmp_path):
        path = tmp_path / "dense.keras"
        keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4)]).save(path)
        with pytest.raises(InputError, match=r"rebuilt for images of \[9, 9, 3\]. Received: .*saved for \[8, 8, 3\]"):
            build_backbone(str(path), (9, 9, 3))

    def test_channels(self, tmp_path):
        path = str(tmp_path / "gray.keras")
        save_classifier(path, channels=1)
        with pytest.raises(InputError, match=r"`image_shape` must have the 1 channels"):
            build_backbone(path, (16, 16, 3))

    def test_softmax_without_dense(self, tmp_path):
        path = tmp_path / "softmax.keras"
        model = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 8), keras.layers.Flatten(), keras.layers.Softmax()]
        keras.Sequential(model).save(path)
        with pytest.raises(InputError, match="must end in features, or in a softmax over a Dense layer.*Flatten"):
            build_backbone(str(path), (8, 8, 3))

    def test_takes_no_other_weights(self):
        with pytest.raises(InputError, match="`weights` must be none for a .keras or kerashub: `backbone`.*imagenet"):
            build_backbone("some.keras", (8, 8, 3), weights="imagenet")

    def test_pretrained_efficientnet_lite_at_128_pixels(self):
        path = pathlib.Path(os.environ.get("JTLN_SHARED", "")) / "models" / "efficientnet_lite0_imagenet.keras"
        if "JTLN_SHARED" not in os.environ or not path.exists():
            pytest.skip("JTLN_SHARED names no folder with models/efficientnet_lite0_imagenet.keras")
        backbone = build_backbone(str(path), (128, 128, 3), freeze_until="block10_bn1")
        saved = keras.saving.load_model(path, compile=False)
        config = saved.get_config()
        config["layers"][0]["config"]["batch_shape"] = (None, 128, 128, 3)
        resized = keras.Model.from_config(config)
        resized.set_weights(saved.get_weights())
        images = draw_images(2, 128, 128, 3)
        np.testing.assert_allclose(backbone(images), resized(images).numpy().mean((1, 2)), rtol=1e-3, atol=1e-4)
        assert 0 < len(backbone.trainable_variables) < len(saved.trainable_variables)


class TestWeights:
    def test_round_trip(self, tmp_path):
        path = str(tmp_path / "cnn.weights.h5")
        backbone = build_backbone("small_cnn", (12, 12, 1))
        backbone.save_weights(path)
        again = build_backbone("small_cnn", (12, 12, 1), weights=path)
        for ours, theirs in zip(again.get_weights(), backbone.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_another_shape(self, tmp_path):
        path = str(tmp_path / "rgb.weights.h5")
        build_backbone("small_cnn", (12, 12, 3)).save_weights(path)
        with pytest.raises(InputError, match=r"`weights` must fit the backbone. Received: .*conv1.*shape") as caught:
            build_backbone("small_cnn", (12, 12, 1), weights=path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600

    def test_a_deeper_model(self, tmp_path):
        path = str(tmp_path / "deep.weights.h5")
        build_backbone("small_cnn", (64, 64, 1)).save_weights(path)
        with pytest.raises(InputError, match=r"must fit the backbone. .*10 arrays, the backbone has 8"):
            build_backbone("small_cnn", (32, 32, 1), weights=path)

    def test_no_weights_file(self, tmp_path):
        path = tmp_path / "text.weights.h5"
        path.write_text("no weights")
        with pytest.raises(InputError, match=r"`weights` must be a Keras weights file"):
            build_backbone("small_cnn", (12, 12, 1), weights=str(path))

    def test_missing(self):
        with pytest.raises(MissingInputError, match=r"`weights` must be an existing file. Received: none.weights.h5"):
            build_backbone("small_cnn", (12, 12, 1), weights="none.weights.h5")

    def test_unknown(self):
        with pytest.raises(InputError, match=r"`weights` must be none, imagenet or PATH.weights.h5. Received: 'jft'"):
            build_backbone("small_cnn", (12, 12, 1), weights="jft")

    def test_own_trunks_have_no_imagenet_weights(self):
        with pytest.raises(InputError, match=r"`weights` must be none or PATH.weights.h5 for small_cnn"):
            build_backbone("small_cnn", (12, 12, 1), weights="imagenet")


class TestFreezing:
    def test_layers_up_to_the_named_one_stay(self):
        backbone = build_backbone("small_cnn", (12, 12, 1), freeze_until="conv2")
        frozen = [layer.name for layer in backbone.layers if not layer.trainable]
        assert frozen[-1] == "conv2" and frozen == [layer.name for layer in backbone.layers[: len(frozen)]]
        assert {v.path.split("/")[0] for v in backbone.trainable_variables} == {"conv3", "features"}

    def test_frozen_batch_norm_keeps_its_statistics(self, tmp_path):
        path = str(tmp_path / "normalized.keras")
        layers = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(name="norm1"), keras.layers.Conv2D(4, 3)]
        keras.Sequential([keras.Input((12, 12, 1)), *layers]).save(path)
        backbone = build_backbone(path, (12, 12, 1), freeze_until="norm1")
        assert len(backbone.trainable_variables) == 2
        before = [np.array(value) for value in backbone.get_layer("norm1").get_weights()]
        after_norm = keras.Model(backbone.input, backbone.get_layer("norm1").output)
        images = draw_images(3, 12, 12, 1)
        np.testing.assert_array_equal(after_norm(images, training=True), after_norm(images, training=False))
        for value, old in zip(backbone.get_layer("norm1").get_weights(), before, strict=True):
            np.testing.assert_array_equal(value, old)

    def test_unknown_layer(self):
        with pytest.raises(InputError, match=r"`freeze_until` must name one of the \d+ layers .*pool2.*'pool22'"):
            build_backbone("small_cnn", (12, 12, 1), freeze_until="pool22")


def documented_layers():
    """Rows of the table of layers in docs/backbones.md."""
    text = (REPOSITORY / "docs" / "backbones.md").read_text()
    rows = text.partition("| backbone | early |")[2].partition("\n\n")[0].splitlines()[2:]
    return [(row.split("|")[1].strip(), re.findall("`(.+?)`", row)) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layers"), documented_layers())
def test_documented_layers_are_there_in_order_and_can_be_cut(name, layers):
    keras.backend.clear_session()
    network = build_network(name, 2, 2, image_shape=(96, 96, 3))
    names = [layer.name for layer in network.get_layer("backbone").layers]
    positions = [names.index(layer) for layer in layers]
    assert len(layers) == 4 and positions == sorted(positions)
    for layer in layers:
        cut_network(network, layer)


class TestArguments:
    def test_unknown_name_lists_the_closest_first(self):
        with pytest.raises(
            InputError, match=r"PATH.keras, kerashub:PRESET or one of ResNet50, .*small_cnn.*Received: 'resnet5'"
        ):
            build_backbone("resnet5", (32, 32, 3))

    @pytest.mark.parametrize("image_shape", [(28, 28), (28, 28, 2), (0, 28, 1), (28.0, 28, 1), 28])
    def test_image_shape(self, image_shape):
        with pytest.raises(InputError, match=r"`image_shape` must be \(height, width, channels\)"):
            build_backbone("small_cnn", image_shape)

    def test_pixel_range_of_a_named_backbone(self):
        with pytest.raises(InputError, match="`pixel_range` must be 0_255 for small_cnn"):
            build_backbone("small_cnn", (28, 28, 1), pixel_range="0_1")

    def test_unknown_pixel_range(self):
        with pytest.raises(InputError, match="`pixel_range` must be one of 0_255, 0_1, -1_1"):
            build_backbone("some.keras", (28, 28, 1), pixel_range="0_2")
