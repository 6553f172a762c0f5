import numpy as np
import pytest
from PIL import Image

from jtln_tf.data.decoded import load_split, open_split
from jtln_tf.data.examples import Examples


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_a_split_without_images_is_an_empty_dataset(tmp_path, cache):
    examples = Examples(np.empty(0, object), np.empty(0, np.int32), np.empty(0, object))
    split, bad = load_split(examples, 8, 1, cache=cache, cache_dir=tmp_path / "cache")
    assert list(split.dataset(4)) == [] and split.dataset(4).element_spec[0].shape.as_list() == [None, 8, 8, 1]
    assert bad == {}


def test_pixels_are_resized_like_pil_and_gray_is_repeated():
    small = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    examples = Examples(small, np.zeros(3, np.int32), np.array(["a", "b", "c"]))
    large = open_split(examples, 28, 3).images
    for pixels, expected in zip(large, small[..., 0], strict=True):
        resized = Image.fromarray(expected).resize((28, 28), Image.Resampling.BILINEAR)
        # PIL's weights have 8 bits.
        np.testing.assert_allclose(pixels.astype(int), np.asarray(resized.convert("RGB"), int), atol=2)
