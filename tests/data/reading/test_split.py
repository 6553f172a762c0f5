import pathlib

import numpy as np
import pytest
from PIL import Image

from jtln_tf.data import Split, decode_all
from jtln_tf.data.reading import images as images_file
from jtln_tf.data.reading.images import Records

LABELS = np.arange(11, dtype=np.int32) % 3


class Reader:
    """Records in memory."""

    content = ""

    def __init__(self, paths):
        self.records = [pathlib.Path(path).read_bytes() for path in paths]

    def read(self, numbers):
        found = np.empty(len(numbers), object)
        found[:] = [self.records[number] for number in numbers]
        return found


@pytest.fixture
def paths(tmp_path):
    """11 gray images of 8x8 pixels; the value of all pixels is the position."""
    for value in range(11):
        Image.new("L", (8, 8), value).save(tmp_path / f"{value:02d}.png")
    return np.array(sorted(map(str, tmp_path.iterdir())))


@pytest.fixture(params=["pixels", "mapped", "large", "files", "records"])
def split(request, paths, tmp_path, monkeypatch):
    if request.param == "files":
        return Split(paths, LABELS, 8, 3)
    if request.param == "records":
        return Split(Records(np.arange(11), Reader(paths)), LABELS, 8, 3)
    pixels = np.tile(np.arange(11, dtype=np.uint8).reshape(-1, 1, 1, 1), (1, 8, 8, 3))
    if request.param == "mapped":
        np.save(tmp_path / "pixels.npy", pixels)
        pixels = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    if request.param == "large":
        monkeypatch.setattr(images_file, "_COPIED_BYTES", 1)
    return Split(pixels, LABELS, 8, 3)


def test_every_image_comes_once_in_order(split):
    assert split.item_shape == (8, 8, 3) and split.holds_images
    batches = [(images.numpy(), labels) for images, labels in split.batches(4)]
    assert batches[0][0].shape == (4, 8, 8, 3) and batches[0][0].dtype == np.uint8
    assert [len(labels) for _, labels in batches] == [4, 4, 3]
    images, labels = (np.concatenate(column) for column in zip(*batches, strict=True))
    np.testing.assert_array_equal(images, np.tile(np.arange(11).reshape(-1, 1, 1, 1), (1, 8, 8, 3)))
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize("rows", [[3, 0], [], [2, 2, 10]])
def test_take_keeps_the_order_that_is_asked_for(split, rows):
    taken = split.take(rows)
    assert [int(image[0, 0, 0]) for images, _ in taken.batches(2) for image in images.numpy()] == rows
    assert taken.labels.tolist() == LABELS[rows].tolist() and type(taken.images) is type(split.images)
    kept = {}
    assert decode_all(taken, lambda rows, images: kept.update(zip(rows.tolist(), images, strict=True))).tolist() == []
    assert [int(kept[row][0, 0, 0]) for row in range(len(rows))] == rows
    assert taken.images.digest(range(len(rows))) == split.images.digest(rows)


def test_views_are_taken_together():
    activations = np.arange(12, dtype=np.float32).reshape(6, 2)
    split = Split(activations, np.array([5, 6, 7], np.int32), 8, 1, views=2)
    assert split.is_decoded and not split.holds_images and split.item_shape == (2,)
    taken = split.take([2, 0])
    np.testing.assert_array_equal(taken.images, activations[[2, 0, 5, 3]])
    assert taken.labels.tolist() == [7, 5] and [len(images) for images, _ in taken.batches(9)] == [2]


@pytest.mark.parametrize("kind", ["files", "records"])
def test_broken_images_are_found_and_explained(paths, kind):
    for row in (2, 9):
        pathlib.Path(paths[row]).write_bytes(b"\xff\xd8" if row == 2 else bytes(range(128, 256)))
    split = Split(paths if kind == "files" else Records(np.arange(11), Reader(paths)), LABELS, 8, 1)
    kept = []
    assert decode_all(split, lambda rows, images: kept.extend(zip(rows, images, strict=True))).tolist() == [2, 9]
    assert [row for row, image in kept if int(image[0, 0, 0]) == row] == [0, 1, 3, 4, 5, 6, 7, 8, 10]
    for row in (2, 9):
        assert split.find_reason(row) and "\n" not in split.find_reason(row)
