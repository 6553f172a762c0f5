"""What is said of a domain. Oracle: the files as Pillow decodes them, compared one by one."""

import contextlib
import dataclasses
import io
import itertools
import json
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jtln_tf.config import InputError
from jtln_tf.data import list_domain, load_domain, write_records
from jtln_tf.data.reading.split import Split
from jtln_tf.description import describe_domain, divide_domain, format_description, save_contact_sheet
from jtln_tf.description.headers import read_headers
from jtln_tf.report.contact_sheet import build_figure

SPLITS = {"train": "train", "val": "validation", "test": "test"}


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder in which all is found that can be wrong with one."""
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
  train/dog/bad.jpg (train): Unknown image file format. One of JPEG, JPEG XL, PNG, GIF, BMP, WebP required.
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


def test_repeated_images_are_those_of_the_same_pixels(photos, description):
    images = decode_all(photos)
    equal = {pair for pair in itertools.combinations(images, 2) if np.array_equal(*map(images.get, pair))}
    groups = [sorted(one["image"] for one in group["images"]) for group in description["duplicates"]]
    assert {tuple(sorted(pair)) for pair in equal} == set(map(tuple, groups)) and len(groups) == 3
    # What contradicts comes first, then what leaks.
    assert groups == [
        ["test/dog/other.bmp", "train/cat/1.png"],
        ["test/cat/copy.png", "train/cat/0.png"],
        ["train/cat/2.png", "train/cat/again.png"],
    ]
    assert [group["same_file"] for group in description["duplicates"]] == [False, True, True]
    assert description["contradictions"] == 1
    assert description["leaks"] == {"validation_in_train": 0, "test_in_train": 2, "test_in_validation": 0}
    assert description["repeated_images"] == {"train": 1, "validation": 0, "test": 0}


def test_bad_files_are_those_that_pillow_cannot_decode_either(photos, description):
    bad = {str(path.relative_to(photos)) for path in photos.glob("*/*/*")} - set(decode_all(photos))
    assert {one["image"] for one in description["bad_files"]} == bad and len(bad) == 2
    first = description["bad_files"][0]
    assert (first["split"], first["class"]) == ("train", "dog") and "Unknown image file format" in first["reason"]


def test_counts_are_those_of_the_folders(photos, description):
    for row in description["classes"]:
        for folder, split in SPLITS.items():
            assert row[split] == len(list((photos / folder / row["class"]).glob("*")))
    assert [row["class"] for row in description["classes"]] == ["Käse 数", "cat", "dog"]
    assert description["imbalance"] == 4 and description["num_classes"] == 3 and description["num_images"] == 13
    assert description["splits"] == {
        "train": {"images": 8, "classes": 3, "missing_classes": []},
        "validation": {"images": 1, "classes": 1, "missing_classes": ["Käse 数", "cat"]},
        "test": {"images": 4, "classes": 2, "missing_classes": ["Käse 数"]},
    }


def test_sizes_and_formats_are_those_of_the_headers(description):
    # By the shorter side: one of 8 x 9, six of 16 x 12, four of 20 x 24; one file is no image.
    assert description["sizes"] == {"smallest": [8, 9], "median": [16, 12], "largest": [20, 24]}
    assert description["formats"] == {"PNG": 8, "JPEG": 2, "BMP": 2, "unknown": 1}
    assert (description["gray_images"], description["colour_images"]) == (6, 6)


def test_a_description_is_json(description):
    assert json.loads(json.dumps(description)) == description
    assert list(description) == [
        *("domain", "num_images", "num_classes", "imbalance", "splits", "classes", "sizes", "formats"),
        *("gray_images", "colour_images", "bad_files", "compared_image_size"),
        *("repeated_images", "leaks", "contradictions", "duplicates"),
    ]


def test_text(description):
    assert format_description(description) == format_description(description, show_all=True) == TEXT


def test_records_are_described_as_their_folder_is(photos, description, tmp_path):
    write_records(list_domain(f"folder:{photos}"), tmp_path / "records", images_per_shard=3)
    records = describe_domain(divide_domain(f"records:{tmp_path}/records"))
    named = ("domain", "bad_files", "duplicates")
    assert {key: records[key] for key in records if key not in named} == {
        key: description[key] for key in description if key not in named
    }
    for key in ("bad_files", "duplicates"):
        assert len(records[key]) == len(description[key])
    assert sorted(str(group["same_file"]) for group in records["duplicates"]) == ["False", "True", "True"]


def test_images_that_stand_in_another_domain_too(photos):
    spec = f"folder:{photos}?classes=cat"
    shown = describe_domain(divide_domain(spec), divide_domain(f"folder:{photos}?classes=dog"))["against"]
    assert shown["num_images"] == 1 and shown["counts"]["train"] == {"train": 0, "validation": 0, "test": 1}
    assert shown["shared"] == [
        {
            "images": [{"image": "train/cat/1.png", "split": "train", "class": "cat"}],
            "against_images": [{"image": "test/dog/other.bmp", "split": "test", "class": "dog"}],
            "same_file": False,
        }
    ]


def test_text_of_images_in_another_domain(description):
    images = {"images": [{"image": "a.png", "split": "test", "class": "a"}], "same_file": True}
    images["against_images"] = [{"image": "b.png", "split": "train", "class": "b"}]
    counts = {"train": {"train": 0, "test": 0}, "test": {"train": 7, "test": 0}}
    against = {"domain": "folder:other", "num_images": 7, "counts": counts, "shared": [images] * 7}
    lines = format_description({**description, "against": against}).splitlines()
    line = "  a.png (test, a) = b.png (train, b); same file"
    assert lines[-8:] == [
        "Shared        7 images also in folder:other",
        "  7 of test in its train",
        *[line] * 5,
        "  ... 2 more (--all shows them)",
    ]
    assert format_description({**description, "against": against}, show_all=True).endswith("\n".join([line] * 7))
    none = {"domain": "folder:other", "num_images": 0, "counts": {}, "shared": []}
    text = format_description({**description, "against": none})
    assert text.splitlines()[-1] == "Shared        no images also in folder:other"


def test_embedded_digits():
    spec = "builtin:optdigits?per_class=3&classes=1,7"
    domain, loaded = divide_domain(spec, seed=5), load_domain(spec, seed=5)
    description = describe_domain(domain, divide_domain(spec, seed=6))
    for name in ("train", "validation", "test"):
        assert description["splits"][name]["images"] == len(loaded.split(name))
        np.testing.assert_array_equal(domain.splits[name].labels, loaded.split(name).labels)
    assert description["sizes"] == dict.fromkeys(("smallest", "median", "largest"), [8, 8])
    assert description["formats"] == {"pixels": len(sum(([*split.labels] for split in domain.splits.values()), []))}
    assert not description["duplicates"] and not description["bad_files"]
    # Only the draw of the training images follows the seed.
    counts = description["against"]["counts"]
    assert counts["test"] == {"train": 0, "validation": 0, "test": len(loaded.test)}
    assert counts["train"]["train"] == len(
        set(domain.splits["train"].names) & set(divide_domain(spec, seed=6).splits["train"].names)
    )
    assert {group["same_file"] for group in description["against"]["shared"]} == {None}
    text = format_description(description)
    assert "Sizes         8 x 8 (width x height)\n" in text and "training images: 3 of each\n" in text
    assert "Bad files     none\n" in text and "Duplicates    none (images of the same pixels at 28 x 28)\n" in text


def test_progress_counts_every_image_once_in_each_pass(photos):
    calls = []
    describe_domain(divide_domain(f"folder:{photos}"), progress=lambda *values: calls.append(values))
    titles = {title for title, *_ in calls}
    assert titles == {f"headers of folder:{photos}", f"images of folder:{photos}"}
    for title in titles:
        done = [call[1] for call in calls if call[0] == title]
        assert done == sorted(done) and done[-1] == 13 and {call[2] for call in calls} == {13}


def make_description(counts, **changes):
    rows = [{"class": f"c{row:03}", "train": count, "validation": 0, "test": 1} for row, count in enumerate(counts)]
    split = {"images": sum(counts), "classes": len(counts), "missing_classes": []}
    empty = {"images": 0, "classes": 0, "missing_classes": [row["class"] for row in rows]}
    return {
        **{"domain": "folder:x", "num_images": 1, "num_classes": len(counts), "sizes": None, "formats": {"PNG": 1}},
        "imbalance": max(counts) / min(counts),
        "splits": {"train": split, "validation": empty, "test": split},
        **{"classes": rows, "gray_images": 1, "colour_images": 0, "compared_image_size": 224},
        **{"bad_files": [], "duplicates": [], "repeated_images": {}, "leaks": {}, "contradictions": 0},
        **changes,
    }


def names_in(text):
    return [line.split()[0] for line in text.splitlines() if line.startswith("c0") or line.startswith("...")]


def test_of_many_classes_the_ends_and_the_smallest_are_shown():
    counts = [9] * 41
    counts[20], counts[30] = 2, 1
    text = format_description(make_description(counts))
    ends = [f"c{row:03}" for row in (0, 1, 2, 3, 4)], [f"c{row:03}" for row in (36, 37, 38, 39, 40)]
    assert names_in(text) == [*ends[0], "...", *ends[1], "c030", "c020", "c000", "c001", "c002"]
    assert "... 31 more (--all shows them)" in text and "1 (c030) to 9 (c000), imbalance 9" in text
    assert "validation has no images." in text
    everything = [f"c{row:03}" for row in range(41)]
    assert names_in(format_description(make_description(counts), show_all=True)) == everything
    assert names_in(format_description(make_description(counts[:40]))) == everything[:40]
    # Where all are alike none is the smallest.
    assert names_in(format_description(make_description([9] * 41))) == [*ends[0], "...", *ends[1]]


def test_long_lists_are_cut():
    bad = [{"image": f"{row}.png", "split": "train", "class": "a", "reason": "why"} for row in range(8)]
    missing = {"images": 1, "classes": 1, "missing_classes": [f"m{row}" for row in range(7)]}
    description = make_description([1, 2], bad_files=bad)
    description["splits"]["test"] = missing
    text = format_description(description)
    assert "  4.png (train): why\n  ... 3 more (--all shows them)\n" in text and "5.png" not in text
    assert "test has no images of 7 classes: m0, m1, m2, m3, m4, ... (2 more)\n" in text
    assert "7.png" in format_description(description, show_all=True)
    assert "m5, m6\n" in format_description(description, show_all=True)


def test_names_do_not_break_lines():
    description = make_description([1, 2])
    description["classes"][0]["class"] = "new\nline\x1b[31m"
    assert "new\\nline\\x1b[31m  " in format_description(description)


def test_names_and_reasons_cannot_write_to_the_terminal():
    evil = {"image": "x\x1b[31m\nEVIL.png", "split": "train", "class": "0"}
    description = make_description(
        [2, 2],
        bad_files=[{**evil, "reason": "no\x1b[31m\nimage"}],
        duplicates=[{"images": [evil, evil], "same_file": True}],
    )
    text = format_description(description)
    assert all(line.isprintable() for line in text.splitlines())
    assert "  x\\x1b[31m\\nEVIL.png (train): no\\x1b[31m\\nimage\n" in text
    assert text.endswith("= x\\x1b[31m\\nEVIL.png (train, 0); same file")


def test_one_class_without_any_other_split(tmp_path):
    save(tmp_path / "only" / "0.png", np.zeros((4, 4), np.uint8))
    description = describe_domain(divide_domain(f"folder:{tmp_path}"))
    assert description["imbalance"] == 1 and description["num_images"] == 1
    assert "test has no images." in format_description(description)


def test_all_files_broken(tmp_path):
    for row in range(3):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / f"{row}.png").write_bytes(b"")
    domain = divide_domain(f"folder:{tmp_path}")
    description = describe_domain(domain)
    assert len(description["bad_files"]) == 3 and description["sizes"] is None and not description["duplicates"]
    assert "Sizes" not in format_description(description)
    save_contact_sheet(domain, tmp_path / "sheet.png")
    assert (np.asarray(Image.open(tmp_path / "sheet.png").convert("L")) < 128).any()


def encode(mode, file_format):
    buffer = io.BytesIO()
    Image.new(mode, (3, 2)).save(buffer, file_format)
    return buffer.getvalue()


MODES = [("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("I;16", "PNG"), ("L", "JPEG")]
COLOUR_MODES = [("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("P", "GIF"), ("RGB", "BMP")]


def test_headers_of_all_kinds():
    # One of 144 million pixels, which are not looked for.
    header = b"IHDR" + struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0)
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    huge += struct.pack(">I", 8) + b"IDAT"
    encoded = [encode(*mode) for mode in MODES + COLOUR_MODES] + [huge, b"", b"\xff\xd8\xff", huge[:20]]
    images = np.array([*encoded, None], object)[:-1]
    done = []
    headers = read_headers(Split(images, np.zeros(len(images), np.int32), 8, 3), done.append)
    assert headers[-4] == (12_000, 12_000, "PNG", "RGB")
    known = headers[:-4]
    assert [header.format for header in known] == [one for _, one in MODES + COLOUR_MODES]
    assert [header.is_gray for header in known] == [True] * len(MODES) + [False] * len(COLOUR_MODES)
    assert {header[:2] for header in known} == {(3, 2)} and headers[-3:] == [None] * 3
    assert sum(done) == len(images)


def paint(folder, counts, side=64):
    """Writes images of one colour each, another one for every image: the class is the red, the image the green."""
    for red, (name, count) in enumerate(counts.items()):
        for green in range(count):
            pixels = np.full((side, side, 3), (10 + 20 * red, 10 + 20 * green, 0), np.uint8)
            save(folder / name / f"{green}.png", pixels)
    return divide_domain(f"folder:{folder}?test_fraction=0&validation_fraction=0")


def find_images(figure):
    """Returns the left and the top of each image of `paint` in a picture, by (class, image)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    pixels = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
    rows, columns = np.nonzero(pixels[..., 2] == 0)
    found = {}
    for red, green in {tuple(pixel[:2]) for pixel in pixels[rows[::7], columns[::7]]}:
        top, left = np.argwhere((pixels == (red, green, 0)).all(axis=-1)).min(axis=0)
        square = pixels[top : top + 64, left : left + 64]
        if red or green:
            assert square.shape == (64, 64, 3) and (square == (red, green, 0)).all()
            found[(red - 10) // 20, (green - 10) // 20] = left, top
    return found


def test_every_class_has_a_row_of_its_images(tmp_path):
    domain = paint(tmp_path, {"a": 7, "b": 2, "c": 5})
    images = find_images(build_figure(domain, seed=1))
    assert [sum(red == label for red, _ in images) for label in range(3)] == [5, 2, 5]
    tops = [{top for (red, _), (_, top) in images.items() if red == label} for label in range(3)]
    assert all(len(top) == 1 for top in tops) and sorted(map(min, tops)) == list(map(min, tops))
    assert set(find_images(build_figure(domain, seed=1))) == set(images)
    assert set(find_images(build_figure(domain, seed=2))) != set(images)


def test_captions_stand_beside_their_images(tmp_path):
    names = ["Käse 数字", "a$b$c", "x" * 60, "d", "e", "f", "g", "h"]
    domain = paint(tmp_path, dict.fromkeys(sorted(names), 1))
    figure = build_figure(domain)
    images = find_images(figure)
    title, *captions = figure.texts
    assert title.get_text().endswith("8 classes, up to 5 training images of each (seed 0)")
    shown = {caption.get_text(): caption.get_window_extent() for caption in captions}
    expected = {r"Käse \u6570\u5b57", "a$b$c", "x" * 20 + "…" + "x" * 19, *"defgh"}
    assert set(shown) == expected
    for (label, _), (left, top) in images.items():
        box = list(shown.values())[label]
        assert 0 < box.x0 < box.x1 < left and abs(figure.bbox.height - (box.y0 + box.y1) / 2 - top - 32) < 4
    assert title.get_window_extent().x1 < figure.bbox.width
    # In columns: not one below the other all the way.
    assert len({left for left, _ in images.values()}) > 1


def test_of_a_very_long_list_some_classes_are_shown(tmp_path):
    domain = paint(tmp_path, {f"{row:03}": 1 for row in range(12)}, side=2)
    listing = dataclasses.replace(domain.listing, class_names=tuple(f"{row:03}" for row in range(400)))
    train = domain.splits["train"].take(np.arange(400) % 12)
    train = dataclasses.replace(train, labels=np.arange(400, dtype=np.int32))
    figure = build_figure(domain._replace(listing=listing, splits={"train": train}))
    title, *captions = [text.get_text() for text in figure.texts]
    assert "160 of 400 classes, evenly spread over the list" in title
    assert len(captions) == 160 and captions[0] == "000" and captions[-1] == "399"
    steps = np.diff([int(caption) for caption in captions])
    assert set(steps) == {2, 3}
    assert max(figure.bbox.size) < 4000


def test_the_picture_is_a_file_of_its_own(tmp_path):
    domain = paint(tmp_path / "data", {"a": 1})
    for name in ("one.png", "two.png"):
        save_contact_sheet(domain, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.format == "PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "one.png", "two.png"]


def test_specifications_that_do_not_fit(tmp_path):
    paint(tmp_path, {"a": 1, "b": 2})
    with pytest.raises(InputError, match="`folder:` must name an existing folder"):
        divide_domain(f"folder:{tmp_path}/missing")
    with pytest.raises(InputError, match="`per_class` must not exceed .*Received: 2, but class 'a' has 1"):
        divide_domain(f"folder:{tmp_path}?per_class=2&test_fraction=0&validation_fraction=0")
