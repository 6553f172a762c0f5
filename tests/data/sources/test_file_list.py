import json
import os
import unicodedata

import pytest
from PIL import Image

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.data import list_domain, load_domain

FILES = ("a/1.png", "a/2.png", "b/1.png", "b/2.png", "c/ü ,1.png")


@pytest.fixture
def folder(tmp_path):
    for value, name in enumerate(FILES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8), value).save(tmp_path / name)
    return tmp_path


def write(folder, text, name="list.csv"):
    (folder / name).write_bytes(text.encode(errors="surrogateescape"))
    return f"list:{folder}/{name}"


def write_objects(folder, *objects):
    return write(folder, "".join(json.dumps(one) + "\n" for one in objects), "list.jsonl")


def listed(spec, folder):
    """Of each split, the class and file of each image."""
    listing, found = list_domain(spec), {}
    for split, examples in listing.splits.items():
        names = [listing.class_names[label] for label in examples.labels]
        found[split] = list(zip(names, [os.path.relpath(path, folder) for path in examples.images], strict=True))
    return found


ROWS = "path,label\nb/1.png,zebra\na/1.png,ape\na/2.png,ape\n"


@pytest.mark.parametrize(
    "text",
    [
        ROWS,
        ROWS.replace("\n", "\r\n"),
        ROWS.replace(",", ";"),
        ROWS.replace(",", "\t"),
        ROWS.replace("path,label", " Path , LABEL "),
        "label,path,split\nzebra,b/1.png,\nape,a/1.png,\nape,a/2.png,\n",
        ROWS.replace("a/1.png", ".\\a\\\\1.png").replace("b/1.png", "./b/./1.png"),
        ROWS.replace(",ape", ',"ape "').replace("a/2", " a/2"),
        ROWS + "a/2.png,ape\n",
        "\n,,\n" + ROWS.replace("\n", ",,\r\n") + "\n",
        ROWS.partition("\n")[2],
    ],
)
def test_every_spelling_of_a_csv(folder, text):
    expected = [("zebra", "b/1.png"), ("ape", "a/1.png"), ("ape", "a/2.png")]
    assert listed(write(folder, text), folder) == {"train": expected}


@pytest.mark.parametrize("header", ["filename,class", "Image,Label", "FILE NAME,target", "img_path,Category"])
def test_columns_have_the_names_that_people_give(folder, header):
    text = f"{header},Subset\nb/1.png,zebra,train\na/1.png,zebra,Held_Out\n"
    expected = {"train": [("zebra", "b/1.png")], "test": [("zebra", "a/1.png")]}
    assert listed(write(folder, text), folder) == expected
    objects = [dict(zip(f"{header},Subset".split(","), row.split(","), strict=True)) for row in text.splitlines()[1:]]
    assert listed(write_objects(folder, *objects), folder) == expected
    # Our own names go first, and such a column holds something else if it names no split.
    listing = list_domain(write(folder, "path,label,class,set\na/1.png,x,X,1\nb/1.png,y,Y,2\n"))
    assert listing.class_table["x"] == {"label": "x", "class": "X", "set": "1"} and set(listing.splits) == {"train"}
    with pytest.raises(InputError, match="one column of the path. Received: 'image' and 'file' in .*Hint: name one"):
        list_domain(write(folder, "image,file,label\n7,a/1.png,x\n"))


def test_jsonl_and_csv_are_the_same(folder):
    objects = [{"path": "b/1.png", "label": "zebra"}, {"path": "c/ü ,1.png", "label": 7, "split": None, "box": [1, 2]}]
    text = 'path,label\nb/1.png,zebra\n"c/ü ,1.png",7\n'
    expected = {"train": [("zebra", "b/1.png"), ("7", "c/ü ,1.png")]}
    assert listed(write_objects(folder, *objects), folder) == listed(write(folder, text), folder) == expected
    text = "\ufeff" + "\n\n".join(json.dumps(one, ensure_ascii=False) for one in objects)
    assert listed(write(folder, text, "LIST.JSONL"), folder) == expected


def test_splits_are_those_of_the_column(folder):
    for name, split in (("Train", "train"), ("VAL", "validation"), (" valid ", "validation"), ("TEST", "test")):
        rows = f"path,label,split\na/1.png,x,train\na/2.png,x,{name}\n"
        assert ("x", "a/2.png") in listed(write(folder, rows), folder)[split], name


def test_columns_that_a_class_shares_are_its_table(folder):
    rows = "a/1.png,x,F,Ann,\na/2.png,x,F,Bob,\nb/1.png,y,G,Ann,\nb/2.png,z,F,Ann,\n"
    spec = write(folder, "path,label,family,photographer,note\n" + rows)
    table = {name: {"label": name, "family": family} for name, family in (("x", "F"), ("y", "G"), ("z", "F"))}
    assert list_domain(spec).class_table == table
    assert list_domain(spec + "?family=F&exclude=x").class_names == ("z",)
    with pytest.raises(InputError, match=r"or a column of the list \(family, label\). Received: 'photographer'"):
        list_domain(spec + "?photographer=Ann")
    with pytest.raises(InputError, match="`family` must be a value in the list, for example [FG], [FG].*Received: 'H'"):
        list_domain(spec + "?family=H")
    objects = [{"path": "a/1.png", "label": "x", "rank": 1}, {"path": "b/1.png", "label": "y"}]
    assert list_domain(write_objects(folder, *objects)).class_table["x"] == {"label": "x", "rank": "1"}
    assert list_domain(write_objects(folder, *({**one, "rank": None} for one in objects))).class_table == {}


def test_names_in_either_form_of_unicode(folder):
    forms = [unicodedata.normalize(form, "c/ü ,1.png") for form in ("NFC", "NFD")]
    for index, form in enumerate(forms):
        spec = write_objects(folder, {"path": form, "label": unicodedata.normalize("NFD", "ü"), "split": "train"})
        assert listed(spec, folder) == {"train": [("\u00fc", FILES[4])]}, index
    os.rename(folder / forms[0], folder / forms[1])
    assert listed(write_objects(folder, {"path": forms[0], "label": "x"}), folder) == {"train": [("x", forms[1])]}


OUTSIDE = ["/etc/passwd", "a/../a/1.png", "..\\x.png", "c:x.png", "//host/x.png", "gs://bucket/x.png", ".", "a\0.png"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_leads_outside_is_refused(folder, path):
    spec = write_objects(folder, {"path": "a/1.png", "label": "x"}, {"path": path, "label": "x"})
    with pytest.raises(InputError, match=r"below the list's own folder\. Received: .* in line 2 of '.*list\.jsonl'"):
        list_domain(spec)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/1,x\n", "begin with a row of different columns.*Received: 'a/1, x' in"),
        ("path,label,label\na/1.png,x,y\n", "different columns.*Received: 'path, label, label'"),
        ("path,label\n", "A list must have rows. Received: none in '.*list.csv'"),
        ("path,label\na/1.png,x\na/2.png,\n", "A row must have a label. Received: none in line 3 of"),
        ("path,label\na/1.png,salt, fine\n", "each of the 2 columns. Received: 3 in line 2 of .*Hint: .*quotes"),
        ("path,label,split\na/1.png,x,spare\n", "A split must be one of train, val, .*Received: 'spare' in line 2 of"),
        (
            "path,label,split\na/1.png,x,train\na/2.png,x,\n",
            r"`split` must be given in all rows or in none\. Received: none in line 3 of .* \(1 of 2 rows\)",
        ),
        ("path,label,split\na/1.png,x,test\n", "A list must have rows of the train split"),
        (
            "path,label\na/1.png,x\n./a//1.png,y\n",
            "one label and be in one split. Received: 'a/1.png' in line 3 of .*, and otherwise in line 2",
        ),
        (
            "path,label,split\na/1.png,Cat,train\nb/1.png,cat,val\n",
            "be in the train split too. Received: 'cat' in line 3 of '.*list.csv'. Hint: train has 'Cat'",
        ),
        ("path,label\na/1.png,K\udce4se\n", "A list must be a UTF-8 table. Received: .*codec can't decode"),
        ('path,label\na/1.png,"x\n', "A list must be a UTF-8 table. Received: .*unexpected end of data"),
        ("path,label\nno/1.png,x\nno/2.png,x\n", r"'no/1.png' in line 2 of '.*list.csv'; neither it nor any other"),
        ('{"path": "a/1.png", "label": "x"}\n{"path": \n', "a JSON object. Received: line 2 of .*Expecting value"),
        ("[" * 100_000, "must be a JSON object. Received: line 1 of .*recursion"),
        ('{"path": "a/1.png", "label": "\\ud800"}\n', "must be a JSON object. Received: line 1 of .*surrogates"),
        ('{"path": "a/1.png", "label": 1e999}\n', "`label` must be a text. Received: inf in line 1 of"),
        ('{"path": "a/1.png", "label": ["x"]}\n', r"`label` must be a text. Received: \['x'\] in line 1 of"),
    ],
)
def test_lists_that_do_not_fit(folder, text, message):
    name = "list.jsonl" if text.startswith(("{", "[")) else "list.csv"
    with pytest.raises(InputError, match=message):
        list_domain(write(folder, text, name))


def test_a_list_that_is_not_there(folder):
    with pytest.raises(MissingInputError, match="`list:` must name an existing file. Received: '.*none.csv'"):
        list_domain(f"list:{folder}/none.csv")
    with pytest.raises(InputError, match="a file that ends in .csv or .jsonl. Received: '.*list.txt'"):
        list_domain(f"list:{folder}/list.txt")


def test_pipes_and_devices_are_refused_and_never_waited_for(folder):
    os.mkfifo(folder / "a" / "pipe.png")
    (folder / "a" / "zero.png").symlink_to("/dev/zero")
    (folder / "a" / "link.png").symlink_to("pipe.png")
    (folder / "a" / "folder.png").mkdir()
    for name in ("pipe", "zero", "link", "folder"):
        with pytest.raises(InputError, match=f"must lead to a plain file. Received: 'a/{name}.png' in line 3 of"):
            list_domain(write(folder, f"path,label\na/1.png,x\na/{name}.png,x\n"))
    os.mkfifo(folder / "list2.csv")
    with pytest.raises(InputError, match="must be a plain file|must name a plain file"):
        list_domain(f"list:{folder}/list2.csv")


def test_a_missing_file_is_a_bad_image(folder):
    spec = write(folder, "path,label\na/gone.png,x\na/1.png,x\nb/gone.png,x\nb/1.png,x\n")
    message = r"Received: 'a/gone.png \(line 2 of list.csv\)' \(1 more\) \(.*No such file.* Hint: --skip_bad_images"
    with pytest.raises(InputError, match=message):
        load_domain(spec + "?test_fraction=0&validation_fraction=0", image_size=8)
