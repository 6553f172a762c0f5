import logging as python_logging
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tests.data.reading.test_decoding import LOSSLESS, PICTURE, encode

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.data import decode_all, load_domain


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
    return [int(images[0, 0, 0, 0]) for images, _ in split.dataset(1)]


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_crop_of_a_folder_s_images(tmp_path, cache):
    write_classes(tmp_path, {"cat": 6, "dog": 6})
    for path in tmp_path.glob("*/*.png"):
        picture = Image.new("L", (8, 11), 255)
        picture.paste(Image.open(path))
        picture.save(path)
    assert sorted(ids(load(tmp_path, "?crop_bottom=3&test_fraction=0&validation_fraction=0", cache=cache).train)) == (
        list(range(12))
    )
    with pytest.raises(InputError, match=r"readable.*the image has no row above crop_bottom"):
        load(tmp_path, "?crop_bottom=11", cache=cache)


BROKEN = {
    "cut.jpg": encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), "JPEG")[:1500],
    "cut.png": LOSSLESS["png_rgb"][:-40],
    "cut.gif": LOSSLESS["gif"][:200],
    "cut.bmp": LOSSLESS["bmp_palette"][:-10],
    "short.bmp": b"BM",
    "longer.bmp": b"BM\xff\xfe" + bytes(8),
    "short.png": b"\x89PNG\r\n\x1a\n",
    "short.jpg": b"\xff\xd8",
    "signature.jpg": b"\xff\xd8\xff",
    "short.webp": b"RIFF\xff\0\0\0WEBPVP8X",
    "cut.webp": LOSSLESS["webp_rgb"][:-40],
    "bytes.gif": bytes(range(128, 256)),
    "empty.jpg": b"",
    "text.jpg": b"<html>404 Not Found</html>",
}


@pytest.mark.parametrize(("name", "cache"), [*((name, "memory") for name in BROKEN), ("cut.jpg", "none")])
def test_broken_image_is_named(tmp_path, name, cache):
    write_classes(tmp_path, {"cat": 4, "dog": 4})
    (tmp_path / "cat" / name).write_bytes(BROKEN[name])
    with pytest.raises(InputError, match=rf"readable.*cat/{name}' \(\S.*[^\]]\)\. Hint: --skip_bad_images"):
        load(tmp_path, cache=cache)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_skipped_images_are_counted_and_replaced(tmp_path, cache, caplog):
    write_classes(tmp_path, {"cat": 12, "dog": 12})
    for index, content in enumerate(BROKEN.values()):
        (tmp_path / "cat" / f"bad{index}.jpg").write_bytes(content)
    with caplog.at_level(python_logging.WARNING, logger="absl"):
        domain = load(tmp_path, "?per_class=6", cache=cache, skip_bad_images=True)
    np.testing.assert_array_equal(np.bincount(domain.train.labels), [6, 6])
    # Only images in use are opened.
    assert 1 <= domain.num_bad_images <= len(BROKEN)
    assert "unreadable images" in caplog.text
    used = ids(domain.train) + ids(domain.validation) + ids(domain.test)
    assert len(set(used)) == len(used) and set(used) <= set(range(24))


def test_every_bad_image_is_counted(tmp_path):
    write_classes(tmp_path, {"cat": 3})
    for index, content in enumerate(BROKEN.values()):
        (tmp_path / "cat" / f"bad{index}.jpg").write_bytes(content)
    assert load(tmp_path, skip_bad_images=True).num_bad_images == len(BROKEN)


def test_skipping_does_not_hide_too_few(tmp_path):
    write_classes(tmp_path, {"cat": 6, "dog": 6})
    for index in range(2):
        (tmp_path / "dog" / f"0{index}.png").write_bytes(b"")
    with pytest.raises(InputError, match="`per_class` must not exceed.*6, but class 'dog' has 4"):
        load(tmp_path, "?per_class=6&test_fraction=0&validation_fraction=0", skip_bad_images=True)


def test_class_of_broken_images_is_named(tmp_path):
    write_classes(tmp_path, {"cat": 3, "dog": 0})
    (tmp_path / "dog" / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match="A class must have training images. Received: 'dog'"):
        load(tmp_path, skip_bad_images=True)


def test_missing_folder(tmp_path):
    with pytest.raises(MissingInputError, match="must name an existing folder.*nowhere"):
        load_domain("folder:nowhere", data_root=str(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingInputError, match="must name an existing folder"):
        load(tmp_path / "file")


def test_folder_is_looked_up_in_data_root(tmp_path):
    write_classes(tmp_path / "pets", {"cat": 3})
    assert load_domain("folder:pets", data_root=str(tmp_path), image_size=8).class_names == ("cat",)
    assert load_domain(f"folder:{tmp_path}/pets", data_root="/elsewhere", image_size=8).class_names == ("cat",)


def test_folder_without_class_folders(tmp_path):
    PICTURE.save(tmp_path / "a.png")
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(InputError, match="one folder of images for each class"):
        load(tmp_path)


def test_folder_without_images(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("")
    (tmp_path / "cat" / "._hidden.png").write_text("")
    (tmp_path / "cat" / "folder.png").mkdir()
    with pytest.raises(InputError, match="A folder must hold images .*jpg.*with none"):
        load(tmp_path)


def test_empty_class_is_named(tmp_path):
    write_classes(tmp_path, {"cat": 3, "dog": 0})
    with pytest.raises(InputError, match="A class must have training images.*/dog'"):
        load(tmp_path)
    assert load(tmp_path, "?exclude=dog").class_names == ("cat",)


def test_class_that_is_only_in_test(tmp_path):
    write_classes(tmp_path / "train", {"cat": 3})
    write_classes(tmp_path / "test", {"cat": 3, "dog": 3})
    with pytest.raises(InputError, match="A class must be in the train split too.*test/dog'"):
        load(tmp_path)


def test_class_without_test_images_is_allowed(tmp_path):
    write_classes(tmp_path / "train", {"cat": 3, "dog": 3})
    write_classes(tmp_path / "test", {"dog": 3})
    assert load(tmp_path).test.labels.tolist() == [1, 1, 1]


def test_split_folder_twice(tmp_path):
    for name in ("train", "val", "valid"):
        write_classes(tmp_path / name, {"cat": 3})
    with pytest.raises(InputError, match="each split once.*valid"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation"])
def test_folder_of_splits(tmp_path, name):
    write_classes(tmp_path / "train", {"cat": 2, "dog": 3})
    write_classes(tmp_path / name, {"cat": 1, "dog": 1})
    write_classes(tmp_path / "test", {"cat": 4, "dog": 2})
    domain = load(tmp_path)
    assert domain.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert domain.validation.labels.tolist() == [0, 1]
    assert domain.test.labels.tolist() == [0, 0, 0, 0, 1, 1]
    assert domain.split("validation") is domain.validation
    with pytest.raises(InputError, match="`split` must be one of train, validation, test. Received: 'val'"):
        domain.split("val")


def test_class_may_be_called_test(tmp_path):
    write_classes(tmp_path, {"exam": 5, "test": 5})
    domain = load(tmp_path)
    assert domain.class_names == ("exam", "test")
    assert len(domain.train) + len(domain.validation) + len(domain.test) == 10


def test_unicode_names(tmp_path):
    write_classes(tmp_path / "données", {"Käse": 3, "ねこ 1": 3})
    domain = load(tmp_path / "données", "?classes=K%C3%A4se", cache="none")
    assert domain.class_names == ("Käse",) and len(ids(domain.train)) == 1
    assert load(tmp_path / "données", "?exclude=Käse").class_names == ("ねこ 1",)


def test_file_name_that_is_not_utf_8(tmp_path):
    write_classes(tmp_path, {"cat": 2})
    try:
        with open(bytes(tmp_path / "cat") + b"/\xe9.png", "wb") as file:
            file.write(LOSSLESS["png_rgb"])
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(InputError, match="A file name must be UTF-8.*udce9.png"):
        load(tmp_path)


def test_suffixes_in_capitals_and_other_files(tmp_path):
    write_classes(tmp_path, {"cat": 1}, suffix=".JPG")
    write_classes(tmp_path / "more", {"dog": 0})
    (tmp_path / "more" / "a.PNG").write_bytes(LOSSLESS["png_rgb"])
    (tmp_path / "more" / "readme.md").write_text("x")
    assert load(tmp_path, "?test_fraction=0").train.labels.tolist() == [0, 1]


CLASSES = {"Apple_Fuji": 2, "Apple_Gala": 2, "Leek": 2, "Milk": 2, "Salt, fine": 2}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("?classes=Leek,Apple_Gala", ["Apple_Gala", "Leek"]),
        ("?classes=Apple_*", ["Apple_Fuji", "Apple_Gala"]),
        ("?exclude=Apple_*,Milk", ["Leek", "Salt, fine"]),
        ("?classes=Apple_*,Leek&exclude=*_Gala", ["Apple_Fuji", "Leek"]),
        ("?classes=Salt%2C fine", ["Salt, fine"]),
        ("?classes=[LM]*", ["Leek", "Milk"]),
    ],
)
def test_choice_of_classes(tmp_path, options, expected):
    write_classes(tmp_path, CLASSES)
    domain = load(tmp_path, options + "&test_fraction=0&validation_fraction=0")
    assert list(domain.class_names) == expected and domain.num_classes == len(expected)
    first_id = {name: 2 * position for position, name in enumerate(CLASSES)}
    assert ids(domain.train) == [first_id[name] + index for name in expected for index in range(2)]
    assert domain.train.labels.tolist() == np.repeat(np.arange(len(expected)), 2).tolist()


def test_unknown_class_lists_close_ones(tmp_path):
    write_classes(tmp_path, CLASSES)
    for option in ("classes", "exclude"):
        with pytest.raises(InputError, match=f"`{option}` must name classes.*Apple_Gala.*Received: 'Apple_Galla'"):
            load(tmp_path, f"?{option}=Apple_Galla")
    with pytest.raises(InputError, match="at least one class. Received: none left"):
        load(tmp_path, "?classes=Leek&exclude=L*")


def test_class_name_with_pattern_characters_is_matched_as_it_is(tmp_path):
    write_classes(tmp_path, {"a[1]": 2, "a1": 2})
    assert load(tmp_path, "?classes=a[1]").class_names == ("a1", "a[1]")
    assert load(tmp_path, "?exclude=a1").class_names == ("a[1]",)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("?family=Fruit", ("Apple_Fuji", "Apple_Gala")),
        ("?family=Fruit,Packages&exclude=*_Fuji", ("Apple_Gala", "Milk")),
        ("?family=Fruit&kind=new", ("Apple_Gala",)),
    ],
)
def test_classes_csv(tmp_path, options, expected):
    write_classes(tmp_path, CLASSES)
    table = (
        "class,family,kind\nApple_Fuji,Fruit,old\nApple_Gala,Fruit,new\nLeek,Vegetables,new,surplus\nMilk,Packages\n"
    )
    (tmp_path / "classes.csv").write_text(table, "utf-8-sig")
    assert load(tmp_path, options).class_names == expected


def test_classes_csv_errors(tmp_path):
    write_classes(tmp_path, CLASSES)
    with pytest.raises(InputError, match="or a column of a classes.csv in the folder. Received: 'family'"):
        load(tmp_path, "?family=Fruit")
    (tmp_path / "classes.csv").write_text("class,family\nLeek,Vegetables,surplus\nGhost,Fruit\n")
    with pytest.raises(InputError, match=r"or a column of its class table \(class, family\). Received: 'famly'"):
        load(tmp_path, "?famly=Fruit")
    with pytest.raises(
        InputError, match="`family` must be a value in its class table, for example .*Vegetables.* Received: 'Meat'"
    ):
        load(tmp_path, "?family=Vegetables,Meat")
    with pytest.raises(InputError, match="none left"):
        load(tmp_path, "?family=Fruit")
    (tmp_path / "classes.csv").write_bytes("class,family\nLeek,Gemüse\n".encode("latin-1"))
    with pytest.raises(InputError, match="A classes.csv must be a UTF-8 table.*classes.csv"):
        load(tmp_path, "?family=Fruit")
    (tmp_path / "classes.csv").write_text("")
    with pytest.raises(InputError, match="or a column of a classes.csv in the folder"):
        load(tmp_path, "?family=Fruit")


def test_hold_out_is_disjoint_stratified_and_the_same_for_every_seed(tmp_path):
    write_classes(tmp_path, {"cat": 20, "dog": 10, "eel": 2, "fox": 1})
    domain = load(tmp_path, "?validation_fraction=0.25")
    parts = [ids(split) for split in (domain.train, domain.validation, domain.test)]
    assert sorted(sum(parts, [])) == list(range(33))
    # 0.2 of the class, then 0.25 of the rest; at least one image, and the last one of a class stays in train.
    assert np.bincount(domain.test.labels, minlength=4).tolist() == [4, 2, 1, 0]
    assert np.bincount(domain.validation.labels, minlength=4).tolist() == [4, 2, 0, 0]
    assert np.bincount(domain.train.labels, minlength=4).tolist() == [12, 6, 1, 1]
    again = load(tmp_path, "?validation_fraction=0.25", seed=7)
    assert [ids(split) for split in (again.train, again.validation, again.test)] == parts


def test_fractions_of_zero_hold_out_nothing(tmp_path):
    write_classes(tmp_path, {"cat": 5})
    domain = load(tmp_path, "?test_fraction=0&validation_fraction=0")
    assert [len(split) for split in (domain.train, domain.validation, domain.test)] == [5, 0, 0]


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_empty_split_is_an_empty_dataset(tmp_path, cache):
    write_classes(tmp_path, {"cat": 1, "dog": 1})
    domain = load(tmp_path, cache=cache)
    assert len(domain.validation) == len(domain.test) == 0
    assert list(domain.validation.dataset(4)) == []
    images, labels = domain.validation.dataset(4).element_spec
    assert images.shape.as_list() == [None, 8, 8, 1] and images.dtype == tf.uint8 and labels.dtype == tf.int32


def test_sampling_is_exact_nested_and_drawn_by_the_seed(tmp_path):
    write_classes(tmp_path, {"cat": 20, "dog": 15})
    draws = {}
    for seed in (0, 1):
        for count in (3, 8):
            domain = load(tmp_path, f"?per_class={count}", seed=seed)
            assert np.bincount(domain.train.labels).tolist() == [count, count]
            draws[seed, count] = set(ids(domain.train))
        assert draws[seed, 3] < draws[seed, 8]
    assert draws[0, 3] != draws[1, 3]
    again = load(tmp_path, labels_per_class=3)
    assert set(ids(again.train)) == draws[0, 3]
    assert not draws[0, 8] & set(ids(again.test) + ids(again.validation))


def test_per_class_larger_than_a_class_is_named(tmp_path):
    write_classes(tmp_path, {"cat": 20, "dog": 5})
    with pytest.raises(InputError, match="`per_class` must not exceed.*Received: 5, but class 'dog' has 3"):
        load(tmp_path, "?per_class=5")


@pytest.mark.parametrize("channels", [1, 3])
def test_dataset_yields_every_image_once_in_order(tmp_path, channels):
    write_classes(tmp_path, {"cat": 7, "dog": 4})
    datasets = {}
    for cache in ("memory", "none"):
        split = load(tmp_path, "?test_fraction=0&validation_fraction=0", cache=cache, channels=channels).train
        assert split.is_decoded == (cache == "memory")
        batches = [(images.numpy(), labels.numpy()) for images, labels in split.dataset(4)]
        assert [len(labels) for _, labels in batches] == [4, 4, 3]
        datasets[cache] = [np.concatenate(column) for column in zip(*batches, strict=True)]
    images, labels = datasets["memory"]
    np.testing.assert_array_equal(images, np.tile(np.arange(11).reshape(-1, 1, 1, 1), (1, 8, 8, channels)))
    np.testing.assert_array_equal(labels, [0] * 7 + [1] * 4)
    assert images.dtype == np.uint8 and labels.dtype == np.int32
    np.testing.assert_array_equal(datasets["none"][0], images)
    np.testing.assert_array_equal(datasets["none"][1], labels)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_take_keeps_the_order_that_is_asked_for(tmp_path, cache):
    write_classes(tmp_path, {"cat": 5})
    split = load(tmp_path, "?test_fraction=0&validation_fraction=0", cache=cache).train
    assert ids(split.take(np.array([3, 0]))) == [3, 0] and len(split.take(np.array([3, 0]))) == 2


def test_folder_defaults_are_rgb_of_224_pixels(tmp_path):
    write_classes(tmp_path, {"cat": 1})
    assert load_domain(f"folder:{tmp_path}").image_shape == (224, 224, 3)


@pytest.mark.parametrize(("name", "side", "sizes"), [("mnist5k", 28, (3600, 400, 1000)), ("optdigits", 8, None)])
def test_builtin_domains(name, side, sizes):
    domain = load_domain(f"builtin:{name}")
    assert domain.class_names == tuple("0123456789") and domain.image_shape == (28, 28, 1)
    counted = tuple(len(split) for split in (domain.train, domain.validation, domain.test))
    assert sum(counted) == {"mnist5k": 5000, "optdigits": 1797}[name]
    if sizes:
        assert counted == sizes
        assert np.bincount(domain.test.labels).tolist() == [100] * 10
    else:
        assert abs(counted[2] - 1797 / 2) <= 5
    original = load_domain(f"builtin:{name}?per_class=2", image_size=side, channels=3)
    assert original.image_shape == (side, side, 3) and len(original.train) == 20
    assert original.train.images.min() == 0 and original.train.images.max() >= 240


def test_builtin_digits_are_upsampled_like_pil():
    small = load_domain("builtin:optdigits?per_class=1", image_size=8).train
    large = load_domain("builtin:optdigits?per_class=1").train
    for pixels, expected in zip(large.images[..., 0], small.images[..., 0], strict=True):
        resized = Image.fromarray(expected).resize((28, 28), Image.Resampling.BILINEAR)
        # PIL's weights have 8 bits.
        np.testing.assert_allclose(pixels.astype(int), np.asarray(resized, int), atol=2)


def test_unknown_builtin():
    with pytest.raises(InputError, match="A builtin domain must be one of mnist5k, optdigits. Received: 'mnist'"):
        load_domain("builtin:mnist")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cache": "ram"}, "`cache` must be one of memory, disk, none. Received: 'ram'"),
        ({"channels": 2}, "`channels` must be 1 or 3. Received: 2"),
        ({"labels_per_class": 5}, "`labels_per_class` must agree with per_class"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(InputError, match=message):
        load_domain("builtin:optdigits?per_class=2", **arguments)


def test_broken_images_are_remembered_on_the_disk_until_they_can_be_read(tmp_path, monkeypatch):
    folder = write_classes(tmp_path / "images", {"cat": 20, "dog": 20})
    path = folder / "cat" / "07.png"
    whole = path.read_bytes()
    path.write_bytes(bytes(len(whole)))
    options = {"cache": "disk", "cache_dir": str(tmp_path / "cache"), "skip_bad_images": True}
    first = load(folder, "?test_fraction=0&validation_fraction=0", **options)
    decoded = []

    def decode(split, *arguments):
        decoded.append(len(split))
        return decode_all(split, *arguments)

    monkeypatch.setattr("jtln_tf.data.cache.pixels.decode_all", decode)
    again = load(folder, "?test_fraction=0&validation_fraction=0", **options)
    assert sum(decoded) == 1 and first.num_bad_images == again.num_bad_images == 1
    assert ids(again.train) == ids(first.train) and len(again.train) == 39
    # A disk that was away: the file looks as it did before.
    status = path.stat()
    path.write_bytes(whole)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    mended = load(folder, "?test_fraction=0&validation_fraction=0", **options)
    assert mended.num_bad_images == 0 and len(mended.train) == 40
