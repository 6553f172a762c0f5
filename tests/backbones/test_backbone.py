import numpy as np
import pytest

from jtln_tf.backbones import check_backbone_files, identify_backbone, is_untrained, usual_image_size
from jtln_tf.config import InputError, MissingInputError, NetworkConfig
from tests.backbones.trunks import build, draw_images


@pytest.mark.parametrize("image_shape", [(28, 28), (28, 28, 2), (0, 28, 1), (28.0, 28, 1), 28])
def test_the_image_shape_must_be_one_of_images(image_shape):
    with pytest.raises(InputError, match=r"`image_shape` must be \(height, width, channels\)"):
        build("small_cnn", image_shape)


@pytest.mark.parametrize(
    ("name", "image_shape", "message"),
    [
        ("inceptionv3", (74, 90, 3), "at least 75 x 75 pixels for InceptionV3. Received: 74 x 90"),
        ("alexnet", (66, 80, 3), "at least 67 x 67 pixels for alexnet. Received: 66 x 80"),
    ],
)
def test_an_image_that_is_too_small(name, image_shape, message):
    with pytest.raises(InputError, match=message):
        build(name, image_shape)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"backbone": "resnet5"},
            InputError,
            r"PATH.keras, kerashub:PRESET or one of ResNet50, .*small_cnn.*Received: 'resnet5'",
        ),
        ({"pixel_range": "0_1"}, InputError, "`pixel_range` must be 0_255 for small_cnn"),
        ({"weights": "jft"}, InputError, "`weights` must be none, imagenet or PATH.weights.h5. Received: 'jft'"),
        ({"weights": "imagenet"}, InputError, "`weights` must be none or PATH.weights.h5 for small_cnn"),
        ({"weights": "no.weights.h5"}, MissingInputError, "`weights` must name an existing file. .*'no.weights.h5'"),
        ({"backbone": "no.keras"}, MissingInputError, "`backbone` must name an existing file. Received: 'no.keras'"),
        (
            {"backbone": "no.keras", "weights": "imagenet"},
            InputError,
            "`weights` must be none for a .keras or kerashub: `backbone`.*imagenet",
        ),
        ({"backbone": "kerashub:"}, InputError, "`backbone` must be kerashub: and a preset's name or folder"),
        ({"backbone": "kerashub:x", "weights": "imagenet"}, InputError, "`weights` must be none .* which has its own"),
        ({"backbone": "kerashub:x.keras", "pixel_range": "0_1"}, InputError, "0_255 for kerashub:x.keras, which sc"),
    ],
)
def test_options_and_files_are_checked_before_anything_is_loaded(options, error, message):
    config = NetworkConfig(**options)
    with pytest.raises(error, match=message):
        check_backbone_files(config)
    with pytest.raises(error, match=message):
        build(image_shape=(28, 28, 1), name=options.pop("backbone", "small_cnn"), **options)


def test_what_others_ask_of_a_backbone(tmp_path):
    assert usual_image_size("AlexNet") == 227 and usual_image_size("ResNet50") is None
    assert usual_image_size("some.keras") is None
    for options, expected in (
        ({}, True),
        ({"weights": "imagenet"}, False),
        ({"backbone": "some.keras"}, False),
        ({"backbone": "kerashub:x"}, False),
    ):
        assert is_untrained(NetworkConfig(**options)) == expected


def test_the_identity_follows_content_and_not_place(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.weights.h5").write_bytes(b"same")
    configs = [NetworkConfig(weights=str(tmp_path / folder / "a.weights.h5")) for folder in ("one", "two")]
    assert identify_backbone(configs[0]) == identify_backbone(configs[1]) != identify_backbone(NetworkConfig())
    (tmp_path / "two" / "a.weights.h5").write_bytes(b"other")
    assert identify_backbone(configs[0]) != identify_backbone(configs[1])
    assert identify_backbone(NetworkConfig(backbone="ResNet50", weights="imagenet")) == "resnet50, imagenet"


def test_layers_up_to_the_named_one_stay():
    backbone = build("small_cnn", (12, 12, 1), freeze_until="conv2")
    frozen = [layer.name for layer in backbone.layers if not layer.trainable]
    assert frozen[-1] == "conv2" and frozen == [layer.name for layer in backbone.layers[: len(frozen)]]
    assert {v.path.split("/")[0] for v in backbone.trainable_variables} == {"conv3", "features"}


def test_an_unknown_layer_is_told_with_its_likes():
    with pytest.raises(InputError, match=r"`freeze_until` must name one of the \d+ layers .*pool2.*'pool22'"):
        build("small_cnn", (12, 12, 1), freeze_until="pool22")


def test_weights_come_back_from_their_file(tmp_path):
    path = str(tmp_path / "cnn.weights.h5")
    backbone = build("small_cnn", (12, 12, 1))
    backbone.save_weights(path)
    images = draw_images(2, 12, 12, 1)
    np.testing.assert_array_equal(build("small_cnn", (12, 12, 1), weights=path)(images), backbone(images))


def test_weights_of_another_model_are_refused(tmp_path):
    path = str(tmp_path / "rgb.weights.h5")
    build("small_cnn", (64, 64, 3)).save_weights(path)
    with pytest.raises(InputError, match=r"must fit the backbone. .*10 arrays, the backbone has 8"):
        build("small_cnn", (32, 32, 3), weights=path)
    with pytest.raises(InputError, match=r"`weights` must fit the backbone. Received: .*conv1.*shape") as caught:
        build("small_cnn", (64, 64, 1), weights=path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    (tmp_path / "text.weights.h5").write_text("no weights")
    with pytest.raises(InputError, match=r"`weights` must be a Keras weights file"):
        build("small_cnn", (12, 12, 1), weights=str(tmp_path / "text.weights.h5"))
