import dataclasses
import logging as python_logging

import numpy as np
import pytest
from PIL import Image

from jtln_tf.config import DataConfig, InputError
from jtln_tf.data import decoded, domain, load_domain, load_domains
from tests.data.reading.test_decoding import LOSSLESS, encode

EVERYTHING = "?test_fraction=0&validation_fraction=0"


def write_classes(folder, counts, suffix=".png"):
    """Writes `counts[name]` distinct 8x8 images of each class; the gray value tells the image."""
    value = 0
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("L", (8, 8), value % 256).save(folder / name / f"{index:02d}{suffix}")
            value += 1
    return folder


def load(folder, options="", **arguments):
    return load_domain(f"folder:{folder}{options}", image_size=8, **{"channels": 1, **arguments})


def ids(split):
    """The gray value of every image of a split of `write_classes`."""
    return [int(images[0, 0, 0, 0]) for images, _ in split.batches(1)]


BROKEN = {
    "cut.jpg": encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), "JPEG")[:1500],
    "cut.png": LOSSLESS["png_rgb"][:-40],
    "cut.gif": LOSSLESS["gif"][:200],
    "cut.bmp": LOSSLESS["bmp_palette"][:-10],
    "longer.bmp": b"BM\xff\xfe" + bytes(8),
    "short.png": b"\x89PNG\r\n\x1a\n",
    "short.webp": b"RIFF\xff\0\0\0WEBPVP8X",
    "cut.webp": LOSSLESS["webp_rgb"][:-40],
    "bytes.gif": bytes(range(128, 256)),
    "empty.jpg": b"",
    "text.jpg": b"<html>404 Not Found</html>",
}


def test_every_broken_image_is_named_or_counted(tmp_path):
    write_classes(tmp_path, {"cat": 3})
    for name, content in BROKEN.items():
        path = tmp_path / "cat" / name
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"readable.*cat/{name}' \(\S.*[^\]]\)\. Hint: --skip_bad_images"):
            load(tmp_path, EVERYTHING)
        path.unlink()
    for name, content in BROKEN.items():
        (tmp_path / "cat" / name).write_bytes(content)
    assert load(tmp_path, skip_bad_images=True).num_bad_images == len(BROKEN)


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_skipped_images_are_replaced(tmp_path, cache, caplog):
    folder = write_classes(tmp_path / "images", {"cat": 12, "dog": 12})
    for index, content in enumerate(BROKEN.values()):
        (folder / "cat" / f"bad{index}.jpg").write_bytes(content)
    options = {"cache": cache, "cache_dir": tmp_path / "cache"}
    with pytest.raises(InputError, match=r"readable.*bad.* more\)"):
        load(folder, "?per_class=6", **options)
    with caplog.at_level(python_logging.WARNING, logger="absl"):
        domain = load(folder, "?per_class=6", skip_bad_images=True, **options)
    np.testing.assert_array_equal(np.bincount(domain.train.labels), [6, 6])
    # Only images in use are opened.
    assert 1 <= domain.num_bad_images <= len(BROKEN)
    assert "unreadable images" in caplog.text
    used = ids(domain.train) + ids(domain.validation) + ids(domain.test)
    assert len(set(used)) == len(used) and set(used) <= set(range(24))


def test_skipping_does_not_hide_too_few(tmp_path):
    write_classes(tmp_path, {"cat": 6, "dog": 6, "eel": 1})
    for path in ("dog/00.png", "dog/01.png", "eel/00.png"):
        (tmp_path / path).write_bytes(b"")
    with pytest.raises(InputError, match="A class must have training images. Received: 'eel'"):
        load(tmp_path, skip_bad_images=True)
    with pytest.raises(InputError, match="`per_class` must not exceed.*6, but class 'dog' has 4"):
        load(tmp_path, f"{EVERYTHING}&per_class=6&exclude=eel", skip_bad_images=True)


def test_the_bottom_is_cropped(tmp_path):
    write_classes(tmp_path, {"cat": 6, "dog": 6})
    fingerprints = {load(tmp_path, options).fingerprint for options in (EVERYTHING, f"{EVERYTHING}&crop_bottom=3")}
    for path in tmp_path.glob("*/*.png"):
        picture = Image.new("L", (8, 11), 255)
        picture.paste(Image.open(path))
        picture.save(path)
    assert ids(load(tmp_path, f"{EVERYTHING}&crop_bottom=3").train) == list(range(12))
    with pytest.raises(InputError, match=r"readable.*the image has no row above crop_bottom"):
        load(tmp_path, "?crop_bottom=11")
    assert len(fingerprints) == 2


def test_hold_out_is_disjoint_stratified_and_the_same_for_every_seed(tmp_path):
    write_classes(tmp_path, {"cat": 20, "dog": 10, "eel": 2, "fox": 1})
    domain = load(tmp_path, "?validation_fraction=0.25")
    parts = [ids(split) for split in (domain.train, domain.validation, domain.test)]
    assert sorted(sum(parts, [])) == list(range(33))
    # At least one image of two, and the last one of a class stays in train.
    assert all(np.bincount(split.labels, minlength=4)[:2].all() for split in (domain.train, domain.validation))
    assert np.bincount(domain.test.labels, minlength=4).astype(bool).tolist() == [True, True, True, False]
    assert np.bincount(domain.validation.labels, minlength=4)[2:].tolist() == [0, 0]
    assert np.bincount(domain.train.labels, minlength=4)[2:].tolist() == [1, 1]
    again = load(tmp_path, "?validation_fraction=0.25", seed=7)
    assert [ids(split) for split in (again.train, again.validation, again.test)] == parts
    with pytest.raises(InputError, match="`split` must be one of train, validation, test. Received: 'val'"):
        again.split("val")


def test_sampling_is_exact_nested_and_drawn_by_the_seed(tmp_path):
    write_classes(tmp_path, {"cat": 20, "dog": 10})
    draws = {}
    for seed in (0, 1):
        for count in (3, 5):
            domain = load(tmp_path, f"?per_class={count}", seed=seed)
            assert np.bincount(domain.train.labels).tolist() == [count, count]
            draws[seed, count] = set(ids(domain.train))
        assert draws[seed, 3] < draws[seed, 5]
    assert draws[0, 3] != draws[1, 3]
    again = load(tmp_path, labels_per_class=3)
    assert set(ids(again.train)) == draws[0, 3]
    assert not draws[0, 5] & set(ids(again.test) + ids(again.validation))
    with pytest.raises(InputError, match="`per_class` must not exceed.*Received: 9, but class 'dog' has [5-8].*Hint"):
        load(tmp_path, "?per_class=9")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("cache", "ram", "one of memory, disk, none"), ("channels", 2, "1 or 3"), ("labels_per_class", 5, "agree with")],
)
def test_arguments_that_do_not_fit(name, value, message):
    with pytest.raises(InputError, match=f"`{name}` must .*{message}.* Received: {value!r}"):
        load_domain("builtin:optdigits?per_class=2", **{name: value})


DIGITS = {"target": "builtin:optdigits?classes=1,2"}


@pytest.mark.parametrize(
    ("options", "default_size", "size"), [({}, 12, 12), ({"image_size": 10}, 12, 10), (DIGITS, None, 28)]
)
def test_two_domains_share_one_size(tmp_path, options, default_size, size):
    write_classes(tmp_path / "pets", {"cat": 9, "dog": 9})
    values = {"source": "builtin:optdigits?per_class=1", "target": "folder:pets?crop_bottom=1", "labels_per_class": 2}
    data = DataConfig(**(values | {"data_root": str(tmp_path), "channels": 1} | options))
    source, target = load_domains(data, seed=3, default_size=default_size)
    assert source.image_shape == target.image_shape == (size, size, 1)
    assert len(source.train) == 10 and len(target.train) == 2 * target.num_classes and target.name == data.target.text
    single = load_domain(data.target, labels_per_class=2, seed=3, image_size=size, channels=1, data_root=tmp_path)
    np.testing.assert_array_equal(target.train.images, single.train.images)
    assert target.fingerprint == single.fingerprint


def test_the_fingerprint_follows_images_labels_and_names(tmp_path):
    write_classes(tmp_path / "a" / "x", {"cat": 3, "dog": 3})
    write_classes(tmp_path / "b" / "x", {"cat": 3, "dog": 3})
    first = load(tmp_path / "a" / "x", EVERYTHING)
    # Another place is no other content.
    assert load(tmp_path / "b" / "x", EVERYTHING).fingerprint == first.fingerprint
    assert load(tmp_path / "a" / "x", f"{EVERYTHING}&exclude=dog").fingerprint != first.fingerprint
    (tmp_path / "b" / "x" / "cat" / "00.png").write_bytes(LOSSLESS["png_rgb"])
    assert load(tmp_path / "b" / "x", EVERYTHING).fingerprint != first.fingerprint
    digits = [load_domain(f"builtin:optdigits?per_class={count}").fingerprint for count in (1, 2, 2)]
    assert digits[0] != digits[1] == digits[2] and dataclasses.replace(first).fingerprint == first.fingerprint


def test_a_domain_of_one_class_is_told_before_decoding(tmp_path):
    write_classes(tmp_path, {"cat": 4})
    (tmp_path / "cat" / "broken.png").write_bytes(b"")
    with pytest.raises(InputError, match=f"must have at least two classes. Received: 'folder:{tmp_path}' with 'cat'"):
        load_domains(DataConfig(source="builtin:optdigits", target=f"folder:{tmp_path}"), seed=0)


def test_memory_that_pixels_would_take_is_known_before_an_image_is_decoded(tmp_path, monkeypatch):
    photos = write_classes(tmp_path / "photos", {"a": 6, "b": 6})
    # 12 images of 64 bytes need 768, of which 4 in 5 bytes may be taken.
    monkeypatch.setattr(domain, "available_memory", lambda: 959)
    monkeypatch.setattr(decoded, "decode_all", None)
    with pytest.raises(
        InputError, match="`cache`=memory must have room .* for 12 images of 8 px .* Hint: --cache=disk"
    ):
        load(photos)
    monkeypatch.undo()
    monkeypatch.setattr(domain, "available_memory", lambda: 0)
    load(photos, cache="disk", cache_dir=str(tmp_path / "cache"))
    monkeypatch.setattr(domain, "available_memory", lambda: 960)
    load(photos)
