import concurrent.futures
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

import jtln_tf.data.reading.images as images_file
from jtln_tf.config import InputError, MissingInputError
from jtln_tf.data import divide_domain, list_domain, load_domain, write_records
from tests.conftest import make_image_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of three splits with a class table, and the records made of it."""
    root = tmp_path_factory.mktemp("photos")
    for split, images in (("train", 7), ("val", 2), ("test", 3)):
        make_image_folder(root / "photos" / split, ["a", "b", "c"], images, seed=images, mode="RGB")
    (root / "photos" / "classes.csv").write_text("class,family\na,x\nb,x\nc,y\n")
    write_records(list_domain(f"folder:{root}/photos"), root / "records", images_per_shard=4)
    return root


def pixels_by_label(split):
    images, labels = next(iter(split.batches(1000)))
    return sorted((int(label), image.tobytes()) for image, label in zip(images.numpy(), labels, strict=True))


@pytest.mark.parametrize("cache", ["none", "memory", "disk"])
def test_records_hold_the_images_of_the_folder(photos, tmp_path, cache):
    folder = load_domain(f"folder:{photos}/photos", image_size=16)
    records = load_domain(f"records:{photos}/records", image_size=16, cache=cache, cache_dir=tmp_path)
    assert records.class_names == folder.class_names and records.class_table == folder.class_table
    for name in ("train", "validation", "test"):
        assert pixels_by_label(records.split(name)) == pixels_by_label(folder.split(name))


@pytest.mark.parametrize("options", ["", "?per_class=3", "?test_fraction=0.4&validation_fraction=0.3", "?classes=b"])
def test_the_same_images_are_held_out_and_drawn_as_of_the_folder(tmp_path, options):
    make_image_folder(tmp_path / "photos", ["a", "b"], 12, mode="RGB")
    write_records(list_domain(f"folder:{tmp_path}/photos"), tmp_path / "records", images_per_shard=5)
    folder, records = (
        load_domain(f"{kind}:{tmp_path}/{name}{options}", image_size=16, seed=1)
        for kind, name in (("folder", "photos"), ("records", "records"))
    )
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(records.split(name).images, folder.split(name).images)
        np.testing.assert_array_equal(records.split(name).labels, folder.split(name).labels)


def test_another_content_has_another_fingerprint(photos, tmp_path):
    shutil.copytree(photos / "photos", tmp_path / "photos")
    Image.new("RGB", (16, 16), 3).save(next((tmp_path / "photos" / "train" / "a").iterdir()))
    write_records(list_domain(f"folder:{tmp_path}/photos"), tmp_path / "records", images_per_shard=4)
    fingerprints = {load_domain(f"records:{root}/records", image_size=16).fingerprint for root in (photos, tmp_path)}
    assert len(fingerprints) == 2


def test_records_are_packed_again_a_few_at_a_time(photos, tmp_path, monkeypatch):
    listing, counts = list_domain(f"records:{photos}/records?family=x"), []
    reader = listing.splits["train"].images.reader
    read = reader.read
    monkeypatch.setattr(reader, "read", lambda numbers: counts.append(len(numbers)) or read(numbers))
    monkeypatch.setattr(images_file, "_RECORDS_AT_ONCE", 5)
    write_records(listing, tmp_path / "again", images_per_shard=100)
    assert max(counts) == 5 and sum(counts) == 24
    domain = load_domain(f"records:{tmp_path}/again", image_size=16)
    expected = load_domain(f"folder:{photos}/photos?family=x", image_size=16)
    assert pixels_by_label(domain.train) == pixels_by_label(expected.train)


def test_damaged_records_are_told(photos, tmp_path):
    with pytest.raises(MissingInputError, match=r"`records:` must name a folder with domain\.json"):
        load_domain(f"records:{photos}")
    broken = shutil.copytree(photos / "records", tmp_path / "broken")
    shard = broken / "train-00000-of-00006.array_record"
    whole = shard.read_bytes()
    shard.unlink()
    with pytest.raises(InputError, match="must have all its shards.*train-00000-of-00006"):
        load_domain(f"records:{broken}")
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="A shard must be whole.*train-00000-of-00006"):
        load_domain(f"records:{broken}", image_size=16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "of format 2.*pack them again"),
        ({"class_names": ["a"]}, "labels_.*npy does not fit"),
        ({"splits": {"train": {"shards": [{"file": "../x.array_record", "records": 1}]}}}, "not the name of a shard"),
        ({"splits": {"../train": {"shards": []}, "train": {"shards": []}}}, "is not a split"),
        ({"class_table": {"a": 3}}, "prepare_data wrote"),
        ({"class_names": [["a"], "b", "c"]}, "must be texts"),
        ({"class_names": ["a", "b", "b"]}, "a class is there twice"),
        ({"test_fraction": float("nan")}, "test_fraction is nan"),
        ({"splits": {}}, "no train split"),
        (None, "prepare_data wrote.*recursion"),
        # Headers of labels.
        ("(17592186044416,)", "prepare_data wrote"),
        ("(21, 1)", "does not fit"),
    ],
)
def test_foreign_files_are_refused(photos, tmp_path, change, message):
    foreign = tmp_path / "foreign"
    shutil.copytree(photos / "records", foreign)
    if isinstance(change, str):
        text = f"{{'descr': '<i4', 'fortran_order': False, 'shape': {change}, }}\n".encode()
        labels = (foreign / "labels_train.npy").read_bytes()[-84:]
        (foreign / "labels_train.npy").write_bytes(b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + labels)
    else:
        index = json.loads((foreign / "domain.json").read_text())
        (foreign / "domain.json").write_text(json.dumps(index | change) if change else "[" * 100_000)
    with pytest.raises(InputError, match=message) as caught:
        list_domain(f"records:{foreign}")
    assert "\n" not in str(caught.value)


def test_domains_without_test_images_or_of_pixels(photos, tmp_path):
    listing = list_domain(f"folder:{photos}/photos")
    listing.splits["test"] = listing.splits["test"].take([])
    write_records(listing, tmp_path / "records", images_per_shard=10)
    assert len(list_domain(f"records:{tmp_path}/records").splits["test"]) == 0
    with pytest.raises(InputError, match="must have image files"):
        write_records(list_domain("builtin:optdigits"), tmp_path / "out", images_per_shard=10)
    assert not (tmp_path / "out").exists()


def below(folder):
    return sorted(os.path.relpath(path, folder) for path in folder.rglob("*") if path.is_file())


FOREIGN = {
    "mark": lambda folder: (folder / "jtln_tf.json").unlink(),
    "file": lambda folder: (folder / "notes.txt").write_text("mine"),
    "folder": lambda folder: (folder / "train-00000-of-00009.array_record").mkdir(),
    "link": lambda folder: (folder / "labels_more.npy").symlink_to(folder / "labels_train.npy"),
}


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_folder_with_other_things_is_not_replaced(photos, tmp_path, foreign):
    output = tmp_path / "out"
    shutil.copytree(photos / "records", output)
    FOREIGN[foreign](output)
    left = sorted(os.listdir(output))
    with pytest.raises(InputError, match="`output` must .*what this program wrote|`output` must be a new folder"):
        write_records(list_domain(f"folder:{photos}/photos"), output, images_per_shard=9, overwrite=True)
    assert sorted(os.listdir(output)) == left and os.listdir(tmp_path) == ["out"]


def test_only_our_own_folders_are_replaced_or_removed(photos, tmp_path, monkeypatch):
    listing = list_domain(f"folder:{photos}/photos")
    (tmp_path / "out.unfinished").mkdir()
    (tmp_path / "out.unfinished" / "notes.txt").write_text("mine")
    shutil.copytree(photos / "records", tmp_path / "out")
    # The current folder has a name too.
    monkeypatch.chdir(tmp_path / "out")
    write_records(listing, ".", images_per_shard=100, overwrite=True)
    names = [f"out/{name}.array_record" for name in ("test-00000-of-00001", "train-00000-of-00001")]
    assert set(names) < set(below(tmp_path)) and len(below(tmp_path)) == 10


def test_what_others_put_there_meanwhile_stays(photos, tmp_path):
    output = tmp_path / "out"

    def put(count):
        output.mkdir(exist_ok=True)
        (output / "notes.txt").write_text("mine")

    with pytest.raises(InputError, match="must be a new folder"):
        write_records(list_domain(f"folder:{photos}/photos"), output, images_per_shard=9, progress=put)
    assert below(tmp_path) == [".out.prepare_data/lock", "out/notes.txt"]


def test_groups_and_content_divide_records_as_the_list_whatever_the_names(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]},{'' if number > 49 else number // 5}")
    (tmp_path / "list.csv").write_text("path,label,Group\n" + "\n".join(rows))
    write_records(list_domain(f"list:{tmp_path}/list.csv"), tmp_path / "records", images_per_shard=9)
    (tmp_path / "renamed").mkdir()
    for number in range(60):
        shutil.copy(tmp_path / f"{number}.png", tmp_path / "renamed" / f"{-number}.png")
    (tmp_path / "renamed" / "list.csv").write_text(
        "path,label,group\n" + "\n".join(f"-{row}" if row[0] != "0" else row for row in reversed(rows))
    )
    digests = []
    for spec in (f"list:{tmp_path}/list.csv", f"records:{tmp_path}/records", f"list:{tmp_path}/renamed/list.csv"):
        splits = divide_domain(spec).splits
        groups = [set(examples.groups) - {""} for examples in splits.values()]
        assert not groups[0] & groups[2] and not groups[0] & groups[1] and groups[2]
        digests.append({name: set(one.images.digest(range(len(one)))) for name, one in splits.items()})
    assert digests[0] == digests[1] == digests[2]


@pytest.mark.parametrize("name", ["new", "old"])
def test_what_others_put_beside_it_stays(photos, tmp_path, name):
    place = tmp_path / ".out.prepare_data" / name
    place.mkdir(parents=True)
    (place / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=f"nothing of others.*/{name}', which is left"):
        write_records(list_domain(f"folder:{photos}/photos"), tmp_path / "out", images_per_shard=9)
    assert below(tmp_path) == [".out.prepare_data/lock", f".out.prepare_data/{name}/notes.txt"]


def test_of_two_packers_the_second_waits(photos, tmp_path):
    listing, second = list_domain(f"folder:{photos}/photos"), []

    with concurrent.futures.ThreadPoolExecutor() as pool:

        def start_second(count):
            if not second:
                second.append(pool.submit(write_records, listing, tmp_path / "out", images_per_shard=4))
                assert concurrent.futures.wait(second, timeout=0.5).not_done

        write_records(listing, tmp_path / "out", images_per_shard=9, progress=start_second)
        assert isinstance(second[0].exception(), InputError)
    domain = load_domain(f"records:{tmp_path}/out", image_size=16)
    assert len(domain.train) == 21 and (tmp_path / "out" / "train-00000-of-00003.array_record").exists()


def test_old_records_outlive_a_kill_and_a_failure(photos, tmp_path, monkeypatch):
    listing, output = list_domain(f"folder:{photos}/photos"), tmp_path / "out"
    shutil.copytree(photos / "records", tmp_path / ".out.prepare_data" / "old")
    with pytest.raises(InputError, match="must be a new folder"):
        write_records(listing, output, images_per_shard=9)
    assert sorted(os.listdir(output)) == sorted(os.listdir(photos / "records"))
    replace = os.replace

    def fail(source, target):
        if source.name == "new":
            raise OSError("no more")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match=r"can be written.*\(no more\)"):
        write_records(listing, output, images_per_shard=9, overwrite=True)
    assert sorted(os.listdir(output)) == sorted(os.listdir(photos / "records"))
    assert os.listdir(tmp_path / ".out.prepare_data") == ["lock"]
