"""What is said about a domain. Oracle: the files as Pillow decodes them, compared one by one."""

import contextlib
import itertools
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from jtln_tf.data import divide_domain, list_domain, load_domain, write_records
from jtln_tf.description import describe_domain, format_description


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with everything that can be wrong with one."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 256, (5, 12, 16), np.uint8)
    colour = rng.integers(0, 256, (4, 24, 20, 3), np.uint8)
    for row in range(3):
        save(folder / "train" / "cat" / f"{row}.png", gray[row])
    for row in range(2):
        save(folder / "train" / "dog" / f"{row}.jpg", colour[row])
    save(folder / "train" / "Käse 数" / "0.png", np.zeros((9, 8), np.uint8))
    save(folder / "val" / "dog" / "0.png", colour[2])
    save(folder / "test" / "dog" / "new.bmp", colour[3])
    # Repeated in its split; a leak; a leak with another label and in another format.
    shutil.copy(folder / "train" / "cat" / "2.png", folder / "train" / "cat" / "again.png")
    (folder / "test" / "cat").mkdir()
    shutil.copy(folder / "train" / "cat" / "0.png", folder / "test" / "cat" / "copy.png")
    save(folder / "test" / "dog" / "other.bmp", gray[1][..., None].repeat(3, axis=-1))
    (folder / "train" / "dog" / "bad.jpg").write_bytes(b"no image")
    (folder / "test" / "dog" / "cut.png").write_bytes((folder / "val" / "dog" / "0.png").read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def description(photos):
    return describe_domain(divide_domain("folder:photos", data_root=photos.parent))


TEXT = """\
Domain        folder:photos
Images        13: train 8, validation 1, test 4
Formats       PNG 61.5 %, JPEG 15.4 %, BMP 15.4 %, unknown 7.69 %; gray 50 %, colour 50 %
Sizes         smallest 8 x 9, median 16 x 12, largest 20 x 24 (width x height, by the shorter side)
Classes       3; training images: 1 (Käse 数) to 4 (cat), imbalance 4

class        train  validation        test
Käse 数           1           0           0
cat              4           0           1
dog              3           1           3

validation has no images of 2 classes: Käse 数, cat
test has no images of 1 class: Käse 数

Bad files     2 (a run stops at them; --skip_bad_images leaves them out)
  train/dog/bad.jpg (train): an image must be a JPEG, PNG, WebP, GIF, BMP or TIFF file
  test/dog/cut.png (test): Invalid PNG data, size 300

Duplicates    3 images in two or more places (same pixels at 224 x 224)
  REPEATED: 1 of train also in train
  LEAK: 2 of test also in train
  CONTRADICTION: 1 under different labels
  train/cat/1.png (train, cat) = test/dog/other.bmp (test, dog); other file, same pixels
  train/cat/0.png (train, cat) = test/cat/copy.png (test, cat); same file
  train/cat/2.png (train, cat) = train/cat/again.png (train, cat); same file"""


def decode_all(folder):
    """Pixels of every readable image, by path below the folder."""
    found = {}
    for path in sorted(folder.glob("*/*/*")):
        with contextlib.suppress(OSError), Image.open(path) as image:
            found[str(path.relative_to(folder))] = np.asarray(image.convert("RGB"))
    return found


def test_images_are_bad_or_repeated_as_pillow_sees_them(photos, description):
    images = decode_all(photos)
    equal = {pair for pair in itertools.combinations(images, 2) if np.array_equal(*map(images.get, pair))}
    groups = [sorted(one["image"] for one in group["images"]) for group in description["duplicates"]]
    assert {tuple(sorted(pair)) for pair in equal} == set(map(tuple, groups)) and len(groups) == 3
    bad = {str(path.relative_to(photos)) for path in photos.glob("*/*/*")} - set(images)
    assert {one["image"] for one in description["bad_files"]} == bad and len(bad) == 2


def test_text_of_what_json_holds(description):
    assert json.loads(json.dumps(description)) == description
    assert format_description(description) == format_description(description, show_all=True) == TEXT


def test_records_are_described_as_their_folder_is(photos, description, tmp_path):
    write_records(list_domain(f"folder:{photos}"), tmp_path / "records", images_per_shard=3)
    records = describe_domain(divide_domain(f"records:{tmp_path}/records"))
    bad, duplicates = records.pop("bad_files"), records.pop("duplicates")
    assert records == {key: description[key] for key in records} | {"domain": f"records:{tmp_path}/records"}
    assert len(bad) == 2 and sorted(str(group["same_file"]) for group in duplicates) == ["False", "True", "True"]


def test_embedded_digits():
    spec = "builtin:optdigits?per_class=3&classes=1,7"
    domain, loaded = divide_domain(spec, seed=5), load_domain(spec, seed=5)
    description = describe_domain(domain, divide_domain(spec, seed=6))
    for name in ("train", "validation", "test"):
        assert description["splits"][name]["images"] == len(loaded.split(name))
        np.testing.assert_array_equal(domain.splits[name].labels, loaded.split(name).labels)
    assert description["sizes"] == dict.fromkeys(("smallest", "median", "largest"), [8, 8])
    assert description["formats"] == {"pixels": domain.num_images}
    assert not description["duplicates"] and not description["bad_files"]
    # Only the draw of the training images follows the seed.
    counts = description["against"]["counts"]
    assert counts["test"] == {"train": 0, "validation": 0, "test": len(loaded.test)}
    assert {group["same_file"] for group in description["against"]["shared"]} == {None}
    text = format_description(description)
    assert "Sizes         8 x 8 (width x height)\n" in text and "training images: 3 of each\n" in text
    assert f"images also in {spec}\n" in text and f"  {len(loaded.test)} of test in its test\n" in text
    assert "Bad files     none\n" in text and "Duplicates    none (images of the same pixels at 28 x 28)\n" in text


def test_one_class_whose_files_are_all_broken(tmp_path):
    (tmp_path / "a").mkdir()
    for row in range(3):
        (tmp_path / "a" / f"{row}.png").write_bytes(b"")
    description = describe_domain(divide_domain(f"folder:{tmp_path}?test_fraction=0&validation_fraction=0"))
    assert len(description["bad_files"]) == 3 and description["sizes"] is None and not description["duplicates"]
    assert description["imbalance"] == 1
    text = format_description(description)
    assert "Sizes" not in text and "test has no images." in text


def test_a_class_without_images_is_reported(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "train" / "empty").mkdir()
    description = describe_domain(divide_domain(f"folder:{tmp_path}/photos"))
    assert description["imbalance"] is None and "empty" in description["splits"]["train"]["missing_classes"]
    text = format_description(description)
    assert "training images: 0 (empty) to 4 (cat), a run stops at a class with none" in text
    assert "train has no images of 1 class: empty" in text
