"""The data sets that TensorFlow Datasets lacks, on small copies of their published layouts."""

import shutil

import numpy as np
import pytest
from PIL import Image

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.data import load_domain
from jtln_tf.data.sources.builders import FgvcAircraft, Office31
from jtln_tf.data.sources.builders.fgvc_aircraft import LEVELS
from jtln_tf.data.sources.builders.office31 import CLASS_NAMES

# Names as they are published: with slashes, spaces and dashes.
AIRCRAFT = {
    "737-200": ("Boeing 737", "Boeing"),
    "747-400": ("Boeing 747", "Boeing"),
    "F/A-18": ("F/A-18", "McDonnell Douglas"),
    "A320": ("A320", "Airbus"),
    "BAE 146-200": ("BAE 146", "British Aerospace"),
}
IMAGES_PER_CLASS = {"train": 4, "val": 3, "test": 2}
AIRCRAFT_IMAGES = {"train": 20, "validation": 15, "test": 10}
SIDE, BANNER = 24, 20
OFFICE_IMAGES = {"amazon": 3, "dslr": 1, "webcam": 2}


def write_aircraft(folder):
    """Writes `data/` with gray images of class k that have the value 40 k + 10, over a white banner of 20 rows."""
    data = folder / "data"
    (data / "images").mkdir(parents=True)
    classes = {name: {"variant": name, "family": row[0], "manufacturer": row[1]} for name, row in AIRCRAFT.items()}
    for level, plural in (("variant", "variants"), ("family", "families"), ("manufacturer", "manufacturers")):
        names = dict.fromkeys(row[level] for row in classes.values())
        (data / f"{plural}.txt").write_text("\n".join(names) + "\n")
    number = 0
    for split, count in IMAGES_PER_CLASS.items():
        lines = {level: [] for level in LEVELS}
        for label, variant in enumerate(AIRCRAFT):
            for _ in range(count):
                number += 1
                pixels = np.full((SIDE + BANNER, SIDE, 3), 40 * label + 10, np.uint8)
                # Images of different splits must differ.
                pixels[0, 0] = number
                pixels[SIDE:] = 255
                Image.fromarray(pixels).save(data / "images" / f"{number:07}.jpg", quality=95)
                for level in LEVELS:
                    lines[level].append(f"{number:07} {classes[variant][level]}\n")
        for level, text in lines.items():
            (data / f"images_{level}_{split}.txt").write_text("".join(text))
    return folder


def write_office(folder):
    """Writes the three domains; the gray value of an image is its class."""
    for domain, count in OFFICE_IMAGES.items():
        for label, name in enumerate(CLASS_NAMES):
            images = folder / domain / "images" / name
            images.mkdir(parents=True)
            for number in range(1, count + 1):
                pixels = np.full((16, 16, 3), 8 * label, np.uint8)
                pixels[0, 0] = 80 * number
                Image.fromarray(pixels).save(images / f"frame_{number:04}.jpg")
    (folder / "amazon" / "images" / "mug" / "Thumbs.db").write_bytes(b"")
    return folder


@pytest.fixture(autouse=True)
def published_numbers(monkeypatch):
    """Those of the small copies."""
    monkeypatch.setattr(FgvcAircraft, "NUM_IMAGES", AIRCRAFT_IMAGES)
    monkeypatch.setattr(FgvcAircraft, "NUM_CLASSES", {"variant": 5, "family": 5, "manufacturer": 4})
    monkeypatch.setattr(Office31, "NUM_IMAGES", {domain: 31 * count for domain, count in OFFICE_IMAGES.items()})


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_aircraft(root / "downloads" / "manual" / "fgvc-aircraft-2013b")
    write_office(root / "downloads" / "manual" / "office31")
    return root


def load(root, text, **arguments):
    return load_domain(f"tfds:{text}", data_root=str(root), image_size=SIDE, **arguments)


def test_manufacturers_are_source_and_target(data_root):
    source = load(data_root, "fgvc_aircraft?manufacturer=Boeing")
    target = load(data_root, "fgvc_aircraft?manufacturer=Airbus&per_class=2")
    expected = {name: {"variant": name, "family": row[0], "manufacturer": row[1]} for name, row in AIRCRAFT.items()}
    assert source.class_table == target.class_table == expected
    assert source.class_names == ("737-200", "747-400") and target.class_names == ("A320",)
    # The official splits: 4, 3 and 2 images of each variant.
    assert [len(split) for split in (source.train, source.validation, source.test)] == [8, 6, 4]
    assert [len(split) for split in (target.train, target.validation, target.test)] == [2, 3, 2]
    families = load(data_root, "fgvc_aircraft/family?manufacturer=McDonnell Douglas,Boeing")
    assert families.class_names == ("Boeing 737", "Boeing 747", "F/A-18")
    for domain, grays in ((source, [10, 50]), (target, [130])):
        for split in (domain.train, domain.validation, domain.test):
            np.testing.assert_allclose(split.images[:, 12, 12, 0], np.array(grays)[split.labels], atol=2)


def test_office_domains(data_root, tmp_path):
    amazon, webcam = (load(data_root, f"office31/{name}?validation_fraction=0") for name in ("amazon", "webcam"))
    assert amazon.class_names == webcam.class_names == CLASS_NAMES and not amazon.class_table
    # Some of its images are the same.
    assert np.bincount(amazon.train.labels).min() >= 1 and set(amazon.test.labels) == set(range(31))
    for split in (amazon.train, amazon.test, webcam.train, webcam.test):
        np.testing.assert_allclose(split.images[:, 20, 20, 0], 8 * split.labels, atol=2)
    write_office(tmp_path / "downloads" / "manual" / "domain_adaptation_images")
    assert len(load(tmp_path, "office31/dslr?test_fraction=0&validation_fraction=0").train) == 31


PAGES = {
    "fgvc_aircraft": ("fgvc-aircraft-2013b.tar.gz", "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/"),
    "office31/webcam": ("domain_adaptation_images.tar.gz", "https://faculty.cc.gatech.edu/~judy/domainadapt/"),
}


@pytest.mark.parametrize("name", PAGES)
def test_missing_files_are_told_in_one_line(tmp_path, name):
    manual, (archive, page) = tmp_path / "downloads" / "manual", PAGES[name]
    for hint in ("by hand", "tar xzf"):
        with pytest.raises(MissingInputError, match=hint) as caught:
            load(tmp_path, name)
        message = str(caught.value)
        assert "\n" not in message and all(text in message for text in (str(manual), archive, page))
        assert not (tmp_path / name.partition("/")[0]).exists()
        manual.mkdir(parents=True, exist_ok=True)
        (manual / archive).write_bytes(b"")


TRAIN, VAL, TEST = ([f"images_{level}_{part}.txt" for level in LEVELS] for part in IMAGES_PER_CLASS)
# The files that are edited, an old text and a new one; without a text they are removed.
DAMAGES = {
    "image": (["images/0000003.jpg"], "", "", "must be complete. Received: no .*0000003.jpg"),
    "path": (TRAIN[:1], "0000001 ", "../../0000001 ", "each image once. Received: '../../0000001 737-200'"),
    "class": (VAL[1:2], "A320", "A32O", "must be an image and its class, each image once. Received: '.* A32O'"),
    "twice": (TEST[2:], "0000037", "0000036", "each image once. Received: '0000036 Boeing'"),
    "list": (TEST[1:2], "0000036", "0000001", "must name the same images as the list of variants"),
    "splits": (TEST, "0000036", "0000001", "must be in one split. Received: 0000001 in test too"),
    "relation": (TRAIN[2:], "01 Boeing", "01 Airbus", "must have one family and manufacturer. Received: '737-200'"),
    "count": (["variants.txt"], "A320\n", "", "number of different variant names must be 5. Received: 4 in"),
    "short": (VAL, "0000035", " ", "number of validation images must be 15. Received: 14 in"),
    "bytes": (["families.txt"], "Boeing", "Bo\udce9ing", "must be UTF-8 text. Received: .*families.txt"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_aircraft_are_told_and_nothing_is_written(tmp_path, name):
    data = write_aircraft(tmp_path / "downloads" / "manual" / "fgvc-aircraft-2013b") / "data"
    files, old, new, message = DAMAGES[name]
    for path in (data / one for one in files):
        if not old:
            path.unlink()
            continue
        text = path.read_text()
        assert old in text
        lines = text.replace(old, new, 1).splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.startswith("  ")), errors="surrogateescape")
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, "fgvc_aircraft")
    assert "\n" not in str(caught.value) and not (tmp_path / "fgvc_aircraft").exists()


def test_damaged_office_is_told(tmp_path):
    folder = write_office(tmp_path / "downloads" / "manual" / "office31")
    (folder / "dslr" / "images" / "pen" / "frame_0001.jpg").unlink()
    with pytest.raises(InputError, match="number of images of dslr must be 31. Received: 30 in"):
        load(tmp_path, "office31/dslr")
    # What is prepared of another domain stays.
    load(tmp_path, "office31/amazon")
    shutil.rmtree(folder / "webcam" / "images" / "pen")
    with pytest.raises(InputError, match="must hold the 31 classes of Office-31. Received: 30 .* 'pen' missing"):
        load(tmp_path, "office31/webcam")
    assert len(load(tmp_path, "office31/amazon").train) > 0
