import keras
import numpy as np
import pytest

from tests.backbones.trunks import build, draw_images


@pytest.mark.parametrize(
    ("image_shape", "num_blocks"), [((8, 8, 1), 3), ((28, 28, 1), 3), ((32, 20, 3), 3), ((64, 64, 3), 4)]
)
def test_blocks_follow_the_image_size(image_shape, num_blocks):
    backbone = build("small_cnn", image_shape)
    assert backbone.name == "backbone" and backbone.output.shape == (None, 128)
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in backbone.layers) == num_blocks
    features = backbone(draw_images(2, *image_shape)).numpy()
    assert np.isfinite(features).all() and features.std() > 0


def test_images_of_a_batch_do_not_see_each_other():
    backbone = build("small_cnn", (12, 12, 1))
    assert backbone.non_trainable_variables == []
    images = draw_images(5, 12, 12, 1)
    together = backbone(images, training=True).numpy()
    alone = np.concatenate([backbone(images[i : i + 1], training=False) for i in range(5)])
    # Batches of another size may sum float32 in another order.
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
