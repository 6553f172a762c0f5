import os
import pathlib

import numpy as np
import pytest

from jtln_tf.data import Split, decode_all
from jtln_tf.data.cache.pixels import cached_pixels
from tests.conftest import make_image_folder


@pytest.fixture
def split(tmp_path):
    folder = make_image_folder(tmp_path / "images", ["a", "b"], 70)
    paths = np.array(sorted(map(str, folder.glob("*/*.png"))))
    return Split(paths, np.zeros(len(paths), np.int32), 8, 1)


@pytest.fixture
def decoded(monkeypatch):
    """Numbers of images that were decoded, call by call."""
    counts = []

    def decode(split, *arguments):
        counts.append(len(split))
        return decode_all(split, *arguments)

    monkeypatch.setattr("jtln_tf.data.cache.pixels.decode_all", decode)
    return counts


def test_pixels_are_decoded_once_and_mapped(split, tmp_path, decoded):
    for _ in range(2):
        pixels, bad = cached_pixels(split, tmp_path / "cache")
        assert isinstance(pixels, np.memmap) and bad.tolist() == [] and decoded == [140]
        np.testing.assert_array_equal(pixels, np.concatenate([images for images, _ in split.dataset(64)]))


def test_another_file_or_crop_makes_other_pixels(split, tmp_path, decoded):
    cached_pixels(split, tmp_path / "cache")
    os.utime(split.images[3], ns=(0, 0))
    cached_pixels(split, tmp_path / "cache")
    cached_pixels(Split(split.images, split.labels, 8, 1, crop_bottom=1), tmp_path / "cache")
    assert decoded == [140] * 3 and len(list((tmp_path / "cache").glob("*.npy"))) == 3


def test_broken_images_are_remembered_until_they_can_be_read(split, tmp_path, decoded):
    path = pathlib.Path(split.images[100])
    whole, status = path.read_bytes(), path.stat()

    def write(content):
        # As it seems when a disk was away: the file looks as before.
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    write(bytes(len(whole)))
    for _ in range(2):
        pixels, bad = cached_pixels(split, tmp_path / "cache")
        assert pixels is None and bad.tolist() == [100]
    assert decoded == [140, 1]
    write(whole)
    pixels, bad = cached_pixels(split, tmp_path / "cache")
    assert len(pixels) == 140 and bad.tolist() == []
