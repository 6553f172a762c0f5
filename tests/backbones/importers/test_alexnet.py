import keras
import numpy as np
import pytest

from jtln_tf.backbones import build_backbone, import_alexnet_weights
from jtln_tf.config import InputError, NetworkConfig
from tests import reference
from tests.backbones.importers.dumps import write_dump

RNG = np.random.default_rng(0)
CONVOLUTIONS = [(11, 11, 3, 96), (5, 5, 48, 256), (3, 3, 256, 384), (3, 3, 192, 384), (3, 3, 192, 256)]
SHAPES = {f"conv{number}": shape for number, shape in enumerate(CONVOLUTIONS, start=1)}
SHAPES |= {"fc6": (9216, 4096), "fc7": (4096, 4096), "fc8": (4096, 1000)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv2": None, "fc9": [np.ones(1), np.ones(1)]}, "conv1, .*, and may have fc8. .*no conv2, also 'fc9'"),
        ({"conv1": [np.zeros(SHAPES["conv1"]), np.full(96, np.nan)]}, "finite biases for conv1"),
        ({}, r"weights of shape \[256, 4096\] for fc6. Received: .* with \[2, 3\]"),
    ],
)
def test_what_is_not_alexnet_is_told_and_nothing_written(changes, message, tmp_path, monkeypatch):
    # Smaller images make a smaller network.
    monkeypatch.setattr("jtln_tf.backbones.importers.alexnet._SIDE", 67)
    shapes = {name: shape if name.startswith("conv") else (2, 3) for name, shape in SHAPES.items()}
    layers = {name: [np.zeros(shape, "f4"), np.zeros(shape[-1:], "f4")] for name, shape in shapes.items()} | changes
    dump = write_dump(tmp_path / "dump.npy", {name: pair for name, pair in layers.items() if pair is not None})
    with pytest.raises(InputError, match=message):
        import_alexnet_weights(dump, tmp_path / "out.weights.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["dump.npy"]


@pytest.mark.slow
def test_the_imported_network_computes_what_caffe_defines(tmp_path):
    blobs = {}
    for name, (*inputs, outputs) in SHAPES.items():
        # As in Caffe: outputs first, channels before height and width; scaled so that no layer fades.
        scale = np.float32(np.sqrt(2 / np.prod(inputs)))
        weights = RNG.standard_normal((outputs, inputs[-1], *inputs[:-1]), "f4") * scale
        blobs[name] = weights, RNG.normal(0, 0.5, outputs).astype("f4")
    layers = {name: [(w.transpose(2, 3, 1, 0) if w.ndim == 4 else w.T), b] for name, (w, b) in blobs.items()}
    # Caffe flattens channels, height, width; the converters height, width, channels.
    layers["fc6"][0] = blobs["fc6"][0].reshape(4096, 256, 6, 6).transpose(2, 3, 1, 0).reshape(9216, 4096)
    dump, weights = write_dump(tmp_path / "bvlc_alexnet.npy", layers), tmp_path / "alexnet.weights.h5"
    import_alexnet_weights(dump, weights)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alexnet.weights.h5", "bvlc_alexnet.npy"]

    image = RNG.integers(0, 256, (227, 227, 3)).astype("f4")
    config = NetworkConfig(backbone="alexnet", weights=str(weights))
    backbone = build_backbone(config, (227, 227, 3))
    expected = reference.caffe_alexnet(image, blobs)
    names = ["conv1", "norm1", "pool2", "conv4", "pool5", "fc7"]
    found = keras.Model(backbone.input, [backbone.get_layer(name).output for name in names])(image[None])
    for name, actual in zip(names, found, strict=True):
        actual = actual.numpy()[0]
        actual = actual.transpose(2, 0, 1) if actual.ndim == 3 else actual
        assert expected[name].std() > 0.1
        # float32 sums of up to 9216 terms.
        np.testing.assert_allclose(actual, expected[name], rtol=1e-3, atol=1e-3 * expected[name].std())
    with pytest.raises(InputError, match=r"`weights` must fit.*fc6.*Hint: .* at another image size than 128 x 128 pix"):
        build_backbone(config, (128, 128, 3))
