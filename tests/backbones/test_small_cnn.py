import keras
import numpy as np
import pytest

from tests.backbones.trunks import build, draw_images


@pytest.mark.parametrize(("image_shape", "num_blocks"), [((1, 8, 1), 3), ((32, 20, 3), 3), ((64, 64, 3), 4)])
def test_blocks_follow_the_image_size(image_shape, num_blocks):
    backbone = build("small_cnn", image_shape)
    assert backbone.name == "backbone" and backbone.output.shape == (None, 128)
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in backbone.layers) == num_blocks
    # No BatchNormalization: images of a batch do not see each other.
    assert backbone.non_trainable_variables == []
    features = backbone(draw_images(2, *image_shape)).numpy()
    assert np.isfinite(features).all() and features.std() > 0
