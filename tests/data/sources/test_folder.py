import logging as python_logging
import os
import unicodedata

import pytest
from PIL import Image

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.data import list_domain, load_domain

NFC, NFD = (unicodedata.normalize(form, "Käse") for form in ("NFC", "NFD"))


def write_images(root, *paths):
    for value, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), value).save(root / path, "PNG")
    return root


def listed(root, options=""):
    """The images of each split, as `class:path below the class's split`."""
    listing, found = list_domain(f"folder:{root}{options}"), {}
    for split, examples in listing.splits.items():
        names = [listing.class_names[label] for label in examples.labels]
        paths = [os.path.relpath(path, root) for path in examples.images]
        found[split] = [f"{name}:{path}" for name, path in zip(names, paths, strict=True)]
    return found


def load(root, options="?test_fraction=0&validation_fraction=0", **arguments):
    return load_domain(f"folder:{root}{options}", image_size=8, channels=1, **arguments)


def test_images_at_any_depth_belong_to_the_first_folder(tmp_path):
    write_images(tmp_path, "dog/1.png", "cat/b/2.png", "cat/a/x/y/1.png", "cat/3.png")
    expected = ["cat:cat/3.png", "cat:cat/a/x/y/1.png", "cat:cat/b/2.png", "dog:dog/1.png"]
    assert listed(tmp_path) == {"train": expected}
    names = {"train": "Train", "validation": "VAL", "test": "tEst"}
    write_images(tmp_path / "parts", *(f"{name}/cat/deep/1.png" for name in names.values()))
    assert listed(tmp_path / "parts") == {key: [f"cat:{name}/cat/deep/1.png"] for key, name in names.items()}


def test_images_are_known_by_their_suffix_and_litter_is_passed_over(tmp_path, caplog):
    names = ["a.JPG", "b.Jpeg", "c.PNG", "d.WebP", "e.bmp", "f.GIF", "g.jpeg"]
    litter = ["__MACOSX/cat/._1.png", "cat/._1.png", ".git/x/1.png", "cat/.thumbnails/1.png", "cat/@eaDir/1.png"]
    litter += ["cat/Thumbs.db", "cat/.DS_Store", "desktop.ini", "cat/sub/__MACOSX/1.png"]
    write_images(tmp_path, *(f"cat/{name}" for name in names), *litter)
    with caplog.at_level(python_logging.WARNING, logger="absl"):
        assert listed(tmp_path) == {"train": [f"cat:cat/{name}" for name in names]}
        assert not caplog.text
        # What may be the user's is told.
        os.mkfifo(tmp_path / "cat" / "pipe.png")
        (tmp_path / "cat" / "zero.png").symlink_to("/dev/zero")
        write_images(tmp_path, "cover.png", "cat/x\x1b[31m\n.heic")
        assert listed(tmp_path) == {"train": [f"cat:cat/{name}" for name in names]}
    more, cover = (record.getMessage() for record in caplog.records)
    assert more.startswith("left out 3 files and folders that are not images, for example") and more.isprintable()
    assert "left out 1 images outside the class folders" in cover and "cover.png'." in cover


@pytest.mark.parametrize(
    "names",
    [
        ("Training", "Testing", "dev"),
        ("TRAIN", "test", "Validation"),
        ("training_set", "Test Set", "valset"),
        ("trainset", "Held-Out", "Develop"),
    ],
)
def test_splits_are_called_as_people_call_them(tmp_path, names):
    train, test, validation = names
    write_images(tmp_path, f"{train}/cat/1.png", f"{test}/cat/2.png", f"{validation}/cat/3.png")
    splits = {"train": f"cat:{train}/cat/1.png", "test": f"cat:{test}/cat/2.png"}
    assert listed(tmp_path) == {name: [one] for name, one in splits.items()} | {
        "validation": [f"cat:{validation}/cat/3.png"]
    }


def test_a_class_may_be_called_train(tmp_path):
    write_images(tmp_path, "bus/1.png", "train/1.png", "test/1.png")
    assert listed(tmp_path) == {"train": ["bus:bus/1.png", "test:test/1.png", "train:train/1.png"]}
    write_images(tmp_path / "parts", "train/1.png", "test/1.png")
    with pytest.raises(InputError, match="one folder of images for each class"):
        listed(tmp_path / "parts")


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a.png", ".hidden/1.png"], "one folder of images for each class. Received: '.*photos' with none"),
        (["cat/notes.txt", "cat/._1.png"], r"A folder must hold images \(.jpg.*with none"),
        (["train/cat/1.png", "val/eel/1.png"], "A class must be in the train split too. Received: '.*val/eel'"),
        (["train/cat/1.png", "val/cat/1.png", "dev/cat/1.png"], "each split once. Received: '.*val' and '.*dev'"),
        (["train/cat/1.png", "val/cat/1.png", "Valid/cat/1.png"], "each split once. Received: '.*val' and '.*Valid'"),
        (["cat/\udce9.png"], r"A file name must be UTF-8. Received: '.*udce9.png'"),
    ],
)
def test_folders_that_do_not_fit(tmp_path, paths, message):
    try:
        write_images(tmp_path / "photos", *paths)
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(InputError, match=message):
        listed(tmp_path / "photos")


def test_a_folder_that_is_missing_or_partly_used(tmp_path):
    write_images(tmp_path, "cat/1.png", "dog/notes.txt")
    for options in ("", "?per_class=1"):
        with pytest.raises(InputError, match="A class must have training images. Received: 'dog'.* exclude=dog"):
            load(tmp_path, options)
    assert listed(tmp_path, "?exclude=dog") == {"train": ["cat:cat/1.png"]}
    for name in ("nowhere", "cat/1.png"):
        with pytest.raises(MissingInputError, match=f"must name an existing folder.*{name}"):
            list_domain(f"folder:{name}", data_root=str(tmp_path))


def test_classes_csv(tmp_path):
    write_images(tmp_path, "Apple/1.png", "Leek/1.png", "Milk/1.png")
    table = "class,family,kind\nApple,Fruit,old\nLeek,Vegetables,new,surplus\nMilk,Packages\nGhost,Meat\n"
    (tmp_path / "classes.csv").write_text(table, "utf-8-sig")
    assert list_domain(f"folder:{tmp_path}?family=Fruit,Packages").class_names == ("Apple", "Milk")
    (tmp_path / "classes.csv").rename(tmp_path / "Classes.CSV")
    assert list_domain(f"folder:{tmp_path}?family=Fruit,Packages").class_names == ("Apple", "Milk")
    (tmp_path / "Classes.CSV").unlink()
    (tmp_path / "classes.csv").write_bytes("\r\n;;\r\nclass;family;\r\n Apple ;Fruit;\r\n".encode("utf-16"))
    assert list_domain(f"folder:{tmp_path}?family=Fruit").class_names == ("Apple",)
    wrong = (("Apple,Fruit\n", "begin with a row of column names. Received: the class 'Apple'"),)
    wrong += (("class,kind,kind\n", "name columns once each"), ("class,a\nx,1\nx,2\n", "'x' in lines 2 and 3 of"))
    damages = (*wrong, ("Leek,Gem\udcfcse\n", "must be a UTF-8 table"), ("", "a column of a classes.csv in the folder"))
    for text, message in damages:
        (tmp_path / "classes.csv").write_text(text, errors="surrogateescape")
        with pytest.raises(InputError, match=message):
            listed(tmp_path, "?family=Fruit")


def test_class_depth_names_classes_by_several_folders(tmp_path, caplog):
    write_images(tmp_path, "Fruit/Kiwi/1.png", "Fruit/Kiwi/deep/2.png", "Milk/Kiwi/1.png", "Milk/Oat/1.png")
    write_images(tmp_path, "Fruit/stray.png")
    (tmp_path / "classes.csv").write_text("class,colour\nMilk/Oat,white\n")
    with caplog.at_level(python_logging.WARNING, logger="absl"):
        listing = list_domain(f"folder:{tmp_path}?class_depth=2")
    assert listing.class_names == ("Fruit/Kiwi", "Milk/Kiwi", "Milk/Oat")
    assert listing.splits["train"].labels.tolist() == [0, 0, 1, 2]
    assert "left out 1 images outside the class folders" in caplog.text
    assert listing.class_table["Milk/Oat"] == {"class": "Milk/Oat", "level_1": "Milk", "colour": "white"}
    assert list_domain(f"folder:{tmp_path}?class_depth=2&level_1=Milk").class_names == ("Milk/Kiwi", "Milk/Oat")
    assert list_domain(f"folder:{tmp_path}?class_depth=2&classes=*/Kiwi&exclude=Milk/*").class_names == ("Fruit/Kiwi",)
    with pytest.raises(InputError, match="`level_1` must be a value in its class table.*Received: 'Bread'"):
        listed(tmp_path, "?class_depth=2&level_1=Bread")
    with pytest.raises(InputError, match="one folder of images for each class, 4 levels down"):
        listed(tmp_path, "?class_depth=4")


def test_names_of_classes_are_one_form_of_unicode(tmp_path):
    write_images(tmp_path, f"train/{NFD}/1.png", f"val/{NFC}/1.png", f"test/{NFD}/1.png")
    (tmp_path / "classes.csv").write_text(f"class,family\n{NFD},Milch{NFD}\n", "utf-8")
    listing = list_domain(f"folder:{tmp_path}?classes={NFD}&family=Milch{NFC}")
    assert listing.class_names == (NFC,) and NFC != NFD
    assert [len(listing.splits[name]) for name in ("train", "validation", "test")] == [1, 1, 1]
    # What is opened is the name that the disk knows.
    assert len(load(tmp_path).train) == 1
    write_images(tmp_path, f"train/{NFC}/1.png")
    with pytest.raises(InputError, match="A class must have one folder.*two forms of Unicode"):
        listed(tmp_path)


def test_images_are_ordered_alike_on_every_system(tmp_path):
    plain = ["Kb.png", f"{NFC}.png", "Kz.png"]
    assert sorted(plain) != sorted(plain, key=lambda name: unicodedata.normalize("NFD", name))
    orders = []
    for form in ("NFC", "NFD"):
        write_images(tmp_path / form, *(f"cat/{unicodedata.normalize(form, name)}" for name in plain))
        orders.append([unicodedata.normalize("NFC", line) for line in listed(tmp_path / form)["train"]])
    assert orders[0] == orders[1] and len(orders[0]) == 3


def test_links_in_a_circle_end(tmp_path):
    write_images(tmp_path, "photos/cat/1.png", "photos/dog/1.png", "photos/dog/in/2.png", "beside/1.png")
    (tmp_path / "photos" / "cat" / "self").symlink_to(".")
    (tmp_path / "photos" / "cat" / "root").symlink_to("..")
    (tmp_path / "photos" / "cat" / "above").symlink_to(tmp_path)
    (tmp_path / "photos" / "all").symlink_to(".")
    # Two that lead to each other: the images of both are in both, once.
    write_images(tmp_path, "photos/eel/1.png", "photos/fox/1.png")
    (tmp_path / "photos" / "eel" / "fox").symlink_to("../fox")
    (tmp_path / "photos" / "fox" / "eel").symlink_to("../eel")
    expected = ["cat:cat/1.png", "dog:dog/1.png", "dog:dog/in/2.png"]
    expected += ["eel:eel/1.png", "eel:eel/fox/1.png", "fox:fox/1.png", "fox:fox/eel/1.png"]
    assert listed(tmp_path / "photos")["train"] == expected


def test_a_broken_link_is_a_bad_image(tmp_path):
    write_images(tmp_path / "photos", "cat/1.png", "cat/2.png", "dog/1.png")
    (tmp_path / "photos" / "cat" / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "photos" / "cat" / "self.png").symlink_to("self.png")
    (tmp_path / "photos" / "cat" / "gone").symlink_to("nowhere")
    options = {"cache": "disk", "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(InputError, match=r"readable. Received: 'photos/cat/gone.png' \(1 more\) \(.*No such file"):
        load(tmp_path / "photos", **options)
    domain = load(tmp_path / "photos", skip_bad_images=True, **options)
    assert domain.num_bad_images == 2 and domain.train.labels.tolist() == [0, 0, 1]
