"""Images that are in two splits. Oracle: the pixels or bytes of every pair compared, one by one."""

import numpy as np
import pytest
from PIL import Image

from jtln_tf.data import Split, find_shared, list_domain, load_domain, write_records
from jtln_tf.data.reading.images import Records


def draw(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def load(folder, kind="folder", **options):
    return load_domain(f"{kind}:{folder}?validation_fraction=0", image_size=16, **options)


def split_of(images, side=8, channels=1):
    return Split(images, np.zeros(len(images), np.int32), side, channels)


def decoded(pixels):
    return split_of(pixels, pixels.shape[1], pixels.shape[-1])


@pytest.fixture
def twins(tmp_path):
    """A folder whose test images 2 and 4 are training images under other names, one of another class."""
    x = draw(12, 16, 16)
    images = {f"train/{name}/{row}.png": x[row + 3 * (name == "b")] for name in "ab" for row in range(3)}
    images |= {"test/a/0.png": x[6], "test/b/0.png": x[7], "test/b/1.png": x[4], "test/b/2.png": x[8]}
    for path, pixels in (images | {"test/b/3.png": x[0]}).items():
        path = tmp_path / "photos" / path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_shared_images_are_found_in_every_cache(twins, tmp_path, cache):
    domain = load(twins, cache=cache, cache_dir=tmp_path / "cache")
    assert find_shared(domain.test, domain.train).tolist() == [2, 4]
    assert find_shared(domain.train, domain.test).tolist() == [0, 4]
    nothing = domain.test.take([])
    assert find_shared(nothing, domain.test).tolist() == find_shared(domain.test, nothing).tolist() == []


def test_files_and_records_are_compared_byte_by_byte(twins, tmp_path, monkeypatch):
    write_records(list_domain(f"folder:{twins}"), tmp_path / "records", images_per_shard=2)
    folder, records = load(twins, cache="none"), load(tmp_path / "records", "records", cache="none")
    assert (
        find_shared(records.test, records.train).tolist() == find_shared(folder.test, records.train).tolist() == [2, 4]
    )
    assert records.test.images.digest([4, 0]) == folder.test.images.digest([4, 0])
    monkeypatch.setattr(Records, "most_compared", 10)
    assert find_shared(records.test, records.train) is find_shared(folder.test, records.train) is None
    assert find_shared(folder.test, folder.train).tolist() == [2, 4]
    # What was decoded is known by its file.
    assert find_shared(load(twins).test, folder.train).tolist() == [2, 4]
    arrays = decoded(np.asarray(load(twins).test.images))
    assert find_shared(arrays, folder.train) is find_shared(folder.test, arrays) is None


@pytest.mark.parametrize("side", [1, 7, 64])
def test_one_pixel_makes_another_image(side):
    """Also a pixel that is not sampled."""
    pixels = np.repeat(draw(1, side, side, 1), side * side, axis=0)
    pixels.reshape(side * side, -1)[np.arange(side * side), np.arange(side * side)] ^= 1
    original = draw(1, side, side, 1)
    everything = decoded(np.concatenate([pixels, original]))
    assert find_shared(everything, decoded(original)).tolist() == [side * side]


def test_files_of_one_size_and_end_are_told_apart(tmp_path):
    for name, first in (("one", b"a"), ("two", b"b")):
        (tmp_path / name).write_bytes(first + bytes(2000))
    files = split_of(np.array([str(tmp_path / name) for name in ("one", "two")]))
    assert find_shared(files.take([0]), files.take([1])).tolist() == []
    assert find_shared(files, files.take([1])).tolist() == [1]
