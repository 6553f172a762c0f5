"""What a folder may look like."""

import pytest
from PIL import Image

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.data import load_domain
from tests.data.reading.test_decoding import LOSSLESS
from tests.data.test_domain import ids, load, write_classes


def test_missing_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("nowhere", "file"):
        with pytest.raises(MissingInputError, match=f"must name an existing folder.*{name}"):
            load_domain(f"folder:{name}", data_root=str(tmp_path))


def test_folder_is_looked_up_in_data_root(tmp_path):
    write_classes(tmp_path / "pets", {"cat": 3})
    assert load_domain("folder:pets", data_root=str(tmp_path), image_size=8).class_names == ("cat",)
    assert load_domain(f"folder:{tmp_path}/pets", data_root="/elsewhere", image_size=8).class_names == ("cat",)


def test_folder_without_classes_or_images(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(InputError, match="one folder of images for each class"):
        load(tmp_path)
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


def test_classes_that_a_split_lacks(tmp_path):
    write_classes(tmp_path / "train", {"cat": 3, "dog": 3})
    write_classes(tmp_path / "test", {"dog": 3})
    assert load(tmp_path).test.labels.tolist() == [1, 1, 1]
    write_classes(tmp_path / "test", {"eel": 3})
    with pytest.raises(InputError, match="A class must be in the train split too.*test/eel'"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_folder_of_splits(tmp_path, name):
    write_classes(tmp_path / "train", {"cat": 2, "dog": 3})
    write_classes(tmp_path / name, {"cat": 1, "dog": 1})
    write_classes(tmp_path / "test", {"cat": 4, "dog": 2})
    domain = load(tmp_path)
    labels = [domain.split(name).labels.tolist() for name in ("train", "validation", "test")]
    assert labels == [[0, 0, 1, 1, 1], [0, 1], [0, 0, 0, 0, 1, 1]]
    write_classes(tmp_path / "VAL", {"cat": 1})
    if name != "val":
        with pytest.raises(InputError, match="each split once.*VAL"):
            load(tmp_path)


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


def test_classes_csv(tmp_path):
    write_classes(tmp_path, {"Apple": 2, "Leek": 2, "Milk": 2})
    table = "class,family,kind\nApple,Fruit,old\nLeek,Vegetables,new,surplus\nMilk,Packages\nGhost,Meat\n"
    (tmp_path / "classes.csv").write_text(table, "utf-8-sig")
    assert load(tmp_path, "?family=Fruit,Packages").class_names == ("Apple", "Milk")
    with pytest.raises(InputError, match="none left"):
        load(tmp_path, "?family=Meat")
    (tmp_path / "classes.csv").write_bytes("class,family\nLeek,Gemüse\n".encode("latin-1"))
    with pytest.raises(InputError, match="A classes.csv must be a UTF-8 table.*classes.csv"):
        load(tmp_path, "?family=Fruit")
    (tmp_path / "classes.csv").write_text("")
    with pytest.raises(InputError, match="or a column of a classes.csv in the folder"):
        load(tmp_path, "?family=Fruit")
