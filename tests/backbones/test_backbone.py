import h5py
import numpy as np
import pytest

from jtln_tf.backbones import build_backbone, check_backbone_files, identify_backbone, is_untrained, usual_image_size
from jtln_tf.config import InputError, NetworkConfig
from tests.backbones.trunks import build, draw_images


@pytest.mark.parametrize("image_shape", [(28, 28), (28, 28, 2), (0, 28, 1), (28.0, 28, 1), 28])
def test_the_image_shape_must_be_one_of_images(image_shape):
    with pytest.raises(InputError, match=r"`image_shape` must be \(height, width, channels\)"):
        build("small_cnn", image_shape)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("inceptionv3", {}, "at least 75 x 75 pixels for InceptionV3. Received: 74 x 90"),
        ("small_cnn", {"freeze_until": "pool22"}, r"`freeze_until` must name one of the \d+ layers .*pool2.*'pool22'"),
    ],
)
def test_what_does_not_fit_the_backbone(name, options, message):
    with pytest.raises(InputError, match=message):
        build(name, (74, 90, 3), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet5"}, "PATH.keras, kerashub:PRESET or one of ResNet50, .*small_cnn.*Received: 'resnet5'"),
        ({"pixel_range": "0_1"}, "`pixel_range` must be 0_255 for small_cnn"),
        ({"weights": "jft"}, "`weights` must be none, imagenet or PATH.weights.h5. Received: 'jft'"),
        ({"weights": "imagenet"}, "`weights` must be none or PATH.weights.h5 for small_cnn"),
        ({"weights": "no.weights.h5"}, "`weights` must name an existing file. Received: 'no.weights.h5'"),
        ({"backbone": "no.keras"}, "`backbone` must name an existing file. Received: 'no.keras'"),
        ({"backbone": "no.keras", "weights": "a"}, "`weights` must be none for a .keras or kerashub: `backbone`.*'a'"),
        ({"backbone": "kerashub:"}, "`backbone` must be kerashub: and a preset's name or folder"),
        ({"backbone": "kerashub:x.keras", "pixel_range": "0_1"}, "0_255 for kerashub:x.keras, which scales"),
    ],
)
def test_options_and_files_are_checked_before_anything_is_loaded(options, message):
    config = NetworkConfig(**{"backbone": "small_cnn", **options})
    for check in (check_backbone_files, lambda config: build_backbone(config, (28, 28, 1))):
        with pytest.raises(InputError, match=message):
            check(config)


def test_what_others_ask_of_a_backbone():
    assert usual_image_size("AlexNet") == 227 and usual_image_size("ResNet50") is None
    assert usual_image_size("some.keras") is None and usual_image_size("efficientnet_lite0") == 224
    assert is_untrained(NetworkConfig()) and not is_untrained(NetworkConfig(weights="imagenet"))
    assert not any(is_untrained(NetworkConfig(backbone=name)) for name in ("some.keras", "kerashub:x"))


def test_the_identity_follows_content_and_not_place(tmp_path):
    assert identify_backbone(NetworkConfig(backbone="ResNet50", weights="imagenet")) == "resnet50, imagenet"
    folders = tmp_path / "one" / "preset", tmp_path / "two" / "preset"
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "a.weights.h5").write_bytes(b"same")
        (folder / "image_converter.json").write_text("{}")
    # A date does not change what a preset computes.
    (folders[1] / "metadata.json").write_text("{}")
    configs = [NetworkConfig(weights=str(folder / "a.weights.h5")) for folder in folders]
    presets = [NetworkConfig(backbone=f"kerashub:{folder}") for folder in folders]
    assert identify_backbone(configs[0]) == identify_backbone(configs[1]) != identify_backbone(NetworkConfig())
    assert identify_backbone(presets[0]) == identify_backbone(presets[1])
    (folders[1] / "a.weights.h5").write_bytes(b"other")
    assert identify_backbone(configs[0]) != identify_backbone(configs[1])
    assert identify_backbone(presets[0]) != identify_backbone(presets[1])


def test_layers_up_to_the_named_one_stay():
    backbone = build("small_cnn", (12, 12, 1), freeze_until="conv2")
    frozen = [layer.name for layer in backbone.layers if not layer.trainable]
    assert frozen[-1] == "conv2" and frozen == [layer.name for layer in backbone.layers[: len(frozen)]]
    assert {v.path.split("/")[0] for v in backbone.trainable_variables} == {"conv3", "features"}
    assert not build("small_cnn", (12, 12, 1), freeze_until="all").trainable_variables


def _datasets(file):
    names = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def test_weights_come_back_from_their_file_and_those_of_another_model_are_refused(tmp_path):
    path, images = str(tmp_path / "rgb.weights.h5"), draw_images(2, 64, 64, 3)
    backbone = build("small_cnn", (64, 64, 3))
    backbone.save_weights(path)
    np.testing.assert_array_equal(build("small_cnn", (64, 64, 3), weights=path)(images), backbone(images))
    with pytest.raises(InputError, match=r"must fit the backbone. .*10 arrays, the backbone has 8"):
        build("small_cnn", (32, 32, 3), weights=path)
    with pytest.raises(InputError, match=r"`weights` must fit the backbone. Received: .*conv1.*shape") as caught:
        build("small_cnn", (64, 64, 1), weights=path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    with h5py.File(path, "a") as file:
        name = next(name for name in _datasets(file) if name.endswith("0"))
        del file[name]
        # A few bytes that announce a thousand billion values.
        file.create_dataset(name, (10**6, 10**6), "f4", chunks=(64, 64))
    with pytest.raises(InputError, match=r"must fit the backbone. .* values, the backbone has"):
        build("small_cnn", (64, 64, 3), weights=path)
    (tmp_path / "rgb.weights.h5").write_text("no weights")
    with pytest.raises(InputError, match=r"`weights` must be a Keras weights file"):
        build("small_cnn", (12, 12, 1), weights=path)
