import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from jtln_tf.data import decode_all
from jtln_tf.data.decoded import load_split, open_split
from jtln_tf.data.examples import Examples
from tests.conftest import make_image_folder


def load(examples, folder, cache="disk", **options):
    return load_split(examples, image_size=8, channels=1, cache=cache, cache_dir=folder / "cache", **options)


@pytest.fixture
def examples(tmp_path):
    folder = make_image_folder(tmp_path / "images", ["a", "b"], 70)
    paths = np.array(sorted(map(str, folder.glob("*/*.png"))))
    return Examples(paths, np.zeros(len(paths), np.int32), paths)


@pytest.fixture
def decoded(monkeypatch):
    """Numbers of images that were decoded, call by call."""
    counts = []

    def decode(split, *arguments):
        counts.append(len(split))
        return decode_all(split, *arguments)

    monkeypatch.setattr("jtln_tf.data.decoded.decode_all", decode)
    return counts


def test_pixels_are_decoded_once_and_mapped(examples, tmp_path, decoded):
    expected = np.concatenate([images for images, _ in open_split(examples, 8, 1).batches(64)])
    for _ in range(2):
        split, bad = load(examples, tmp_path)
        assert isinstance(split.images.values, np.memmap) and not bad and decoded == [140]
        np.testing.assert_array_equal(split.images, expected)


def test_another_file_or_crop_makes_other_pixels(examples, tmp_path, decoded):
    load(examples, tmp_path)
    os.utime(examples.images[3], ns=(0, 0))
    load(examples, tmp_path)
    load(examples, tmp_path, crop_bottom=1)
    assert decoded == [140] * 3 and len(list((tmp_path / "cache").glob("*.npy"))) == 3


def test_broken_images_are_remembered_until_they_can_be_read(examples, tmp_path, decoded):
    path = pathlib.Path(examples.images[100])
    whole, status = path.read_bytes(), path.stat()

    def write(content):
        # As it seems when a disk was away: the file looks as before.
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    write(bytes(len(whole)))
    for _ in range(2):
        split, bad = load(examples, tmp_path)
        assert not split.is_decoded and list(bad) == [str(path)]
    assert decoded == [140, 1]
    write(whole)
    split, bad = load(examples, tmp_path)
    assert split.is_decoded and not bad


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_a_split_without_images_has_no_batches(tmp_path, cache):
    split, bad = load(Examples(np.empty(0, object), np.empty(0, np.int32), np.empty(0, object)), tmp_path, cache)
    assert list(split.batches(4)) == [] and split.item_shape == (8, 8, 1)
    assert bad == {}


def test_pixels_are_resized_like_pil_and_gray_is_repeated():
    small = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    examples = Examples(small, np.zeros(3, np.int32), np.array(["a", "b", "c"]))
    for pixels, expected in zip(open_split(examples, 28, 3).images, small[..., 0], strict=True):
        resized = Image.fromarray(expected).resize((28, 28), Image.Resampling.BILINEAR)
        # PIL's weights have 8 bits.
        np.testing.assert_allclose(pixels.astype(int), np.asarray(resized.convert("RGB"), int), atol=2)
