"""Images that stand in two splits. Oracle: the pixels or bytes of every pair compared, one by one."""

import pathlib

import numpy as np
import pytest
from PIL import Image

import jtln_tf.data.duplicates as contents
from jtln_tf.data import digest_files, digest_pixels, find_shared, list_domain, load_domain, write_records
from jtln_tf.data.reading.split import Split


def make_folder(root, images):
    """Writes `images[path]`, gray pixels [H, W], as PNG files."""
    for path, pixels in images.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / path)
    return root


def draw(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def load(folder, kind="folder", **options):
    return load_domain(f"{kind}:{folder}?validation_fraction=0", image_size=16, **options)


def decoded(pixels):
    return Split(pixels, np.zeros(len(pixels), np.int32), pixels.shape[1], pixels.shape[-1])


@pytest.fixture
def twins(tmp_path):
    """A folder whose test images 1 and 3 of class `b` are training images under other names, one of another class."""
    x = draw(12, 16, 16)
    images = {f"train/{name}/{row}.png": x[row + 3 * (name == "b")] for name in "ab" for row in range(3)}
    images |= {"test/a/0.png": x[6], "test/b/0.png": x[7], "test/b/1.png": x[4], "test/b/2.png": x[8]}
    return make_folder(tmp_path / "photos", images | {"test/b/3.png": x[0]})


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_shared_images_are_found_in_every_cache(twins, tmp_path, cache):
    domain = load(twins, cache=cache, cache_dir=tmp_path / "cache")
    assert find_shared(domain.test, domain.train).tolist() == [2, 4]
    assert find_shared(domain.train, domain.test).tolist() == [0, 4]
    assert find_shared(domain.test, domain.test).tolist() == [0, 1, 2, 3, 4]


def test_files_and_records_are_compared_byte_by_byte(twins, tmp_path, monkeypatch):
    write_records(list_domain(f"folder:{twins}"), tmp_path / "records", images_per_shard=2)
    folder, records = load(twins, cache="none"), load(tmp_path / "records", "records", cache="none")
    assert len(find_shared(records.test, records.train)) == 2
    assert find_shared(folder.test, records.train).tolist() == [2, 4]
    monkeypatch.setattr(contents, "_MOST_RECORDS", 10)
    assert find_shared(records.test, records.train) is None
    assert find_shared(folder.test, records.train) is None
    assert find_shared(folder.test, folder.train).tolist() == [2, 4]


def test_bytes_in_memory_are_files(twins):
    images = load(twins, cache="none")
    encoded = np.array([pathlib.Path(path).read_bytes() for path in images.test.images], object)
    in_memory = Split(encoded, images.test.labels, 16, 3)
    assert find_shared(in_memory, images.train).tolist() == [2, 4]
    assert digest_files(in_memory, [4, 0]) == digest_files(images.test, [4, 0])


def test_pixels_and_files_are_not_compared(twins):
    folders = [load(twins, cache=cache) for cache in ("memory", "none")]
    assert find_shared(folders[0].test, folders[1].test) is None
    assert find_shared(folders[1].test, folders[0].test) is None
    assert find_shared(folders[0].test.take(np.array([], int)), folders[1].test).tolist() == []


@pytest.mark.parametrize("side", [1, 2, 7, 64])
def test_one_pixel_makes_another_image(side):
    """Where it is not sampled too: images that differ in any one place."""
    pixels = np.repeat(draw(1, side, side, 1), side * side, axis=0)
    pixels.reshape(side * side, -1)[np.arange(side * side), np.arange(side * side)] ^= 1
    original = draw(1, side, side, 1)
    assert find_shared(decoded(pixels), decoded(original)).tolist() == []
    everything = decoded(np.concatenate([pixels, original]))
    assert find_shared(everything, decoded(original)).tolist() == [side * side]


def test_files_of_one_size_and_end_are_told_apart(tmp_path):
    for name, first in (("one", b"a"), ("two", b"b")):
        (tmp_path / name).write_bytes(first + bytes(2000))
    paths = np.array([str(tmp_path / name) for name in ("one", "two")], object)
    files = Split(paths, np.zeros(2, np.int32), 8, 1)
    assert find_shared(files.take([0]), files.take([1])).tolist() == []
    assert find_shared(files, files.take([1])).tolist() == [1]


def test_sizes_and_channels_that_differ():
    gray, colour = decoded(np.zeros((3, 4, 4, 1), np.uint8)), decoded(np.zeros((3, 4, 4, 3), np.uint8))
    small = decoded(np.zeros((1, 2, 2, 1), np.uint8))
    for other in (colour, small):
        assert find_shared(gray, other).tolist() == []


def test_empty_splits():
    pixels = decoded(draw(2, 4, 4, 1))
    for one, other in ((pixels, pixels.take(np.array([], int))), (pixels.take(np.array([], int)), pixels)):
        assert find_shared(one, other).tolist() == []
    assert digest_pixels(pixels.take(np.array([], int)))[0] == []


@pytest.mark.parametrize("name", ["mnist5k", "optdigits"])
def test_embedded_digits_have_no_image_twice(name):
    domain = load_domain(f"builtin:{name}")
    splits = (domain.train, domain.validation, domain.test)
    pixels = np.concatenate([split.images for split in splits])
    digests = [digest for split in splits for digest in digest_pixels(split)[0]]
    assert len(set(digests)) == len(np.unique(pixels.reshape(len(pixels), -1), axis=0)) == len(pixels)


def test_digests_of_broken_images_are_none(twins):
    (twins / "test" / "b" / "1.png").write_bytes(b"no image")
    domain = load(twins, skip_bad_images=True, cache="none")
    split = Split(np.append(domain.test.images, str(twins / "test/b/1.png")), np.zeros(5, np.int32), 16, 3)
    done = []
    digests, bad = digest_pixels(split, done.append)
    assert bad.tolist() == [4] and digests[4] is None and len(set(digests)) == 5 and sum(done) == 4
