import bz2
import gzip
import io
import lzma
import os
import pathlib
import random
import signal
import subprocess
import sys
import tarfile
import zipfile

import pytest
from PIL import Image

from jtln_tf.config import InputError
from jtln_tf.data import archive, archive_reader, list_domain, load_domain
from tests.conftest import REPOSITORY


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory, monkeypatch):
    """Where no cache folder is named, it is in the current folder."""
    monkeypatch.chdir(tmp_path_factory.mktemp("current"))


def png(value):
    buffer = io.BytesIO()
    Image.new("L", (8, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


PHOTOS = {"cat/1.png": png(1), "cat/deep/2.png": png(2), "dog/1.JPG": png(3)}
SUFFIXES = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"]
COMPRESS = {".tar": bytes, ".tar.gz": gzip.compress, ".tgz": gzip.compress, ".tar.bz2": bz2.compress}
COMPRESS[".tar.xz"] = lzma.compress


def make_zip(entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return buffer.getvalue()


def make_tar(entries, **attributes):
    """A tar of files; an entry whose content is a `TarInfo` is written as it is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in entries.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if info is content else content
            info.size = info.size or len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def write(folder, suffix, entries, name="photos"):
    path = folder / (name + suffix)
    path.write_bytes(make_zip(entries) if suffix == ".zip" else COMPRESS[suffix](make_tar(entries)))
    return path


def below(folder):
    return sorted(os.path.relpath(path, folder) for path in folder.rglob("*") if path.is_file())


def refused(tmp_path, name, content, message):
    """An archive is refused with a message, twice, and leaves nothing."""
    path, cache = tmp_path / name, tmp_path / "cache"
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(InputError, match=message) as caught:
            list_domain(f"folder:{path}", cache_dir=str(cache))
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
        left = [one for one in cache.rglob("*") if one.suffix != ".lock"] if cache.exists() else []
        assert left == []
    assert sorted(os.listdir(tmp_path)) == sorted({name, *(["cache"] if cache.exists() else [])})


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".ZIP", ".Tar.Gz"])
def test_an_archive_is_the_folder_that_was_packed(tmp_path, suffix):
    path = write(tmp_path, suffix.lower(), PHOTOS).rename(tmp_path / f"photos{suffix}")
    listing = list_domain(f"folder:photos{suffix}", data_root=str(tmp_path))
    assert listing.class_names == ("cat", "dog")
    examples = listing.splits["train"]
    assert examples.names.tolist() == [f"photos{suffix}/{name}" for name in PHOTOS]
    assert [pathlib.Path(image).read_bytes() for image in examples.images] == list(PHOTOS.values())
    assert all(image.startswith(str(tmp_path / ".jtln_cache" / "archive_")) for image in examples.images)
    assert path.exists() and len(below(tmp_path / ".jtln_cache")) == len(PHOTOS) + len(["lock"])


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize(
    ("wrap", "options", "expected"),
    [
        ("photos/{}", "", {"train": ["cat", "dog"]}),
        ("./{}", "", {"train": ["cat", "dog"]}),
        ("a/b/{}", "", {"train": ["cat", "dog"]}),
        ("Train/{}", "", {"train": ["cat", "dog"]}),
        ("photos/train/{}", "", {"train": ["cat", "dog"]}),
        ("pets/{}", "?class_depth=2", {"train": ["pets/cat", "pets/dog"]}),
        ("photos/pets/{}", "?class_depth=2", {"train": ["pets/cat", "pets/dog"]}),
    ],
)
def test_a_folder_around_everything_is_taken_off(tmp_path, suffix, wrap, options, expected):
    entries = {wrap.format(name): content for name, content in PHOTOS.items() if "deep" not in name}
    path = write(tmp_path, suffix, entries)
    listing = list_domain(f"folder:{path}{options}")
    found = {
        split: [listing.class_names[label] for label in examples.labels] for split, examples in listing.splits.items()
    }
    assert found == expected


def test_splits_and_a_class_table_of_an_archive(tmp_path):
    parts = {f"{split}/{name}": content for split in ("train", "VAL") for name, content in PHOTOS.items()}
    table = b"class,family\ncat,feline\ndog,canine\n"
    for name, where in (("in", "photos/classes.csv"), ("beside", "classes.csv")):
        path = write(tmp_path, ".zip", {where: table, **{f"photos/{key}": value for key, value in parts.items()}}, name)
        listing = list_domain(f"folder:{path}?family=canine")
        assert listing.class_names == ("dog",) and set(listing.splits) == {"train", "validation"}, name


def test_a_single_class_is_no_wrapping(tmp_path):
    assert list_domain(f"folder:{write(tmp_path, '.zip', {'cat/1.png': png(1)})}").class_names == ("cat",)


def test_only_images_and_the_class_table_are_unpacked(tmp_path):
    inner = make_zip({"owl/1.png": png(0)})
    others = {
        "__MACOSX/cat/._1.png": b"x",
        "cat/.DS_Store": b"x",
        "cat/._1.png": b"x",
        ".hidden/cat/1.png": b"x",
        "cat/Thumbs.db": b"x",
        "cat/run.sh": b"x",
        "inner.zip": inner,
        "dog/inner.zip": inner,
        "empty/": b"",
        "classes.csv": b"class\ncat\n",
    }
    for suffix in (".zip", ".tar"):
        if suffix == ".tar":
            others["empty/"] = special("empty", tarfile.DIRTYPE)
        path = write(tmp_path, suffix, others | PHOTOS)
        cache = tmp_path / f"cache{suffix}"
        assert list_domain(f"folder:{path}", cache_dir=str(cache)).class_names == ("cat", "dog")
        unpacked = [name.split("/", 2)[2] for name in below(cache) if not name.endswith(".lock")]
        assert unpacked == ["cat/1.png", "cat/deep/2.png", "classes.csv", "dog/1.JPG"]


def test_names_that_macos_and_windows_write(tmp_path):
    # UTF-8 without the mark of it, as the Finder writes; and code page 437.
    marked = make_zip({"Käse/1.png": png(1)})
    unmarked = marked.replace(b"\x14\0\0\x08", b"\x14\0\0\0")
    assert unmarked != marked and not any(one.flag_bits for one in zipfile.ZipFile(io.BytesIO(unmarked)).infolist())
    (tmp_path / "mac.zip").write_bytes(unmarked)
    (tmp_path / "windows.zip").write_bytes(unmarked.replace("Käse".encode(), "Käse_".encode("cp437")))
    assert list_domain(f"folder:{tmp_path}/mac.zip").class_names == ("Käse",)
    assert list_domain(f"folder:{tmp_path}/windows.zip").class_names == ("Käse_",)


def test_an_archive_is_unpacked_once_and_again_when_it_changed(tmp_path, monkeypatch):
    path, cache = write(tmp_path, ".zip", PHOTOS), tmp_path / "cache"
    first = archive.unpack_archive(path, cache)
    with monkeypatch.context() as patch:
        patch.setattr(archive, "read_entries", None)
        assert archive.unpack_archive(path, cache) == first and first.name == "photos.zip"
    status = path.stat()
    write(tmp_path, ".zip", {**PHOTOS, "cat/1.png": png(9)})
    # The same size and time: the list of entries tells.
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = archive.unpack_archive(path, cache)
    assert second != first and (second / "cat/1.png").read_bytes() == png(9) != (first / "cat/1.png").read_bytes()


def test_an_archive_is_loaded(tmp_path):
    options = {"image_size": 8, "channels": 1, "cache": "disk", "cache_dir": str(tmp_path / "cache")}
    path = write(tmp_path, ".tar.xz", {**PHOTOS, "cat/bad.png": b"x"})
    with pytest.raises(InputError, match=r"Every image must be readable. Received: 'photos.tar.xz/cat/bad.png'"):
        load_domain(f"folder:{path}?test_fraction=0&validation_fraction=0", **options)
    domain = load_domain(f"folder:{path}?test_fraction=0&validation_fraction=0", skip_bad_images=True, **options)
    assert domain.train.images[:, 0, 0, 0].tolist() == [1, 2, 3] and domain.num_bad_images == 1


BAD_NAMES = {
    "absolute": "/tmp/evil.png",
    "above": "../evil.png",
    "above later": "cat/../../evil.png",
    "above and back": "cat/../cat/2.png",
    "drive": "C:/evil.png",
    "drive without a slash": "c:evil.png",
    "backslash": "..\\evil.png",
    "share": "//host/evil.png",
    "long": "cat/" + "x" * 300 + ".png",
    "deep": "x/" * 1200 + "1.png",
    "not an image": "../../etc/cron.d/evil",
    "hidden": "__MACOSX/../../evil.png",
}


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leads_outside_is_refused(tmp_path, name, suffix):
    entries = PHOTOS | {BAD_NAMES[name]: png(0)}
    path = write(tmp_path, suffix, entries)
    refused(tmp_path, path.name, path.read_bytes(), "must lead to a place inside of it, by plain names. Received: '")
    assert not (tmp_path.parent / "evil.png").exists()


def test_a_name_with_a_zero_byte_or_no_unicode_is_refused(tmp_path):
    zipped = make_zip(PHOTOS | {"cat/X.png/../../e": b""}).replace(b"cat/X.png/", b"cat/\0.png/")
    refused(tmp_path, "a.zip", make_zip(PHOTOS | {"cat/X.png": b""}).replace(b"X.png", b"\0.png"), "by plain names")
    (tmp_path / "a.zip").unlink()
    refused(tmp_path, "b.zip", zipped, "by plain names")
    (tmp_path / "b.zip").unlink()
    refused(tmp_path, "c.tar", make_tar(PHOTOS | {"cat/\udce9.png": b""}), "by plain names")


LINKS = {
    "symlink": special("cat/l.png", tarfile.SYMTYPE, "1.png"),
    "symlink out": special("cat/l.png", tarfile.SYMTYPE, "/etc/passwd"),
    "symlink folder": special("dog/up", tarfile.SYMTYPE, "../.."),
    "hard link": special("cat/l.png", tarfile.LNKTYPE, "cat/1.png"),
    "hard link out": special("cat/l.png", tarfile.LNKTYPE, "../../etc/passwd"),
}
DEVICES = {
    "fifo": special("cat/l.png", tarfile.FIFOTYPE),
    "character": special("cat/l.png", tarfile.CHRTYPE),
    "block": special("cat/l.png", tarfile.BLKTYPE),
    "unknown": special("cat/l.png", b"V"),
}


@pytest.mark.parametrize("name", [*LINKS, *DEVICES])
def test_links_and_devices_of_a_tar_are_refused(tmp_path, name):
    content = make_tar({**PHOTOS, "special": (LINKS | DEVICES)[name]})
    what = "a link" if name in LINKS else "a device"
    message = rf"files and folders only. Received: '(cat/l.png|dog/up)' in .*a.tar', {what}\."
    refused(tmp_path, "a.tar", content, message)


@pytest.mark.parametrize(("mode", "what"), [(0o120777, "a link"), (0o010644, "a device"), (0o020644, "a device")])
def test_links_and_devices_of_a_zip_are_refused(tmp_path, mode, what):
    info = zipfile.ZipInfo("cat/l.png")
    info.external_attr = mode << 16
    content = make_zip(PHOTOS)
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr(info, "/etc/passwd")
    refused(tmp_path, "a.zip", buffer.getvalue(), rf"files and folders only. Received: 'cat/l.png' in .*, {what}\.")


def test_a_sparse_file_is_refused(tmp_path):
    # 100 GiB of zeros in an old GNU header: the size it has at the offset 483, no data.
    header = bytearray(special("cat/l.png", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[386:483] = bytes(97)
    header[483:495] = b"%011o\0" % (8 * 2**30 - 1)
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:512]))
    refused(tmp_path, "a.tar", bytes(header) + make_tar(PHOTOS), "files and folders only.* a sparse file")


def test_an_encrypted_zip_is_refused(tmp_path):
    plain = make_zip({"cat/1.png": png(1)})
    encrypted = plain.replace(b"PK\x03\x04\x14\0\0\0", b"PK\x03\x04\x14\0\x01\0")
    encrypted = encrypted.replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\x01\0")
    assert zipfile.ZipFile(io.BytesIO(encrypted)).infolist()[0].flag_bits == 1
    refused(tmp_path, "a.zip", encrypted, "must not be encrypted. Received: 'cat/1.png' in .*a.zip'")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("again", ["cat/1.png", "./cat/1.png", "cat//1.png", "notes.txt"])
def test_a_name_twice_is_refused(tmp_path, again):
    first = os.path.normpath(again)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in ("dog/1.png", first, again):
            file.writestr(name, png(1))
    refused(tmp_path, "a.zip", buffer.getvalue(), f"each file once. Received: '{again}' .*, which is there twice")
    (tmp_path / "a.zip").unlink()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name in ("dog/1.png", first, again):
            file.addfile(tarfile.TarInfo(name))
    refused(tmp_path, "a.tgz", buffer.getvalue(), "each file once.*, which is there twice")


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_file_that_is_a_folder_too_is_refused(tmp_path, suffix):
    path = write(tmp_path, suffix, PHOTOS | {"a.png": png(1), "a.png/b/1.png": png(1)})
    refused(tmp_path, path.name, path.read_bytes(), "each file once. Received: 'a.png' in .*, which is a folder too")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize("name", ["cat/bomb.png", "notes.txt"])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, suffix, name):
    path = write(tmp_path, suffix, PHOTOS | {name: bytes(20 * 2**20)})
    assert path.stat().st_size < 2**17
    refused(tmp_path, path.name, path.read_bytes(), f"at most 200 times its size. Received: '{name}' in .* of 20971520")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_bomb_of_many_small_files_is_refused(tmp_path, suffix):
    path = write(tmp_path, suffix, {f"cat/{number}.png": bytes(3 * 2**20) for number in range(7)})
    refused(tmp_path, path.name, path.read_bytes(), "at most 200 times its size. Received: 'cat/5.png'")


def test_entries_that_share_their_bytes_are_a_bomb(tmp_path):
    # Each has 1/20 of the ratio that is allowed; all of them are the same place in the file.
    content, number = random.Random(0).randbytes(2**15) * 2**5, 1000
    one = make_zip({"cat/0000.png": content})
    end = one.index(b"PK\x01\x02")
    local, entry, tail = one[:end], one[end : one.index(b"PK\x05\x06")], one[one.index(b"PK\x05\x06") :]
    entries = b"".join(entry.replace(b"0000", b"%04d" % each) for each in range(number))
    tail = tail[:8] + number.to_bytes(2, "little") * 2 + len(entries).to_bytes(4, "little") + tail[16:]
    assert len(zipfile.ZipFile(io.BytesIO(local + entries + tail)).infolist()) == number
    refused(tmp_path, "a.zip", local + entries + tail, "at most 200 times its size")


@pytest.mark.parametrize("suffix", [".zip", ".tar.bz2"])
def test_limits_of_number_and_size(tmp_path, suffix, monkeypatch):
    path = write(tmp_path, suffix, PHOTOS)
    with monkeypatch.context() as patch:
        patch.setattr(archive, "_MAX_ENTRIES", 2)
        refused(tmp_path, path.name, path.read_bytes(), "at most 2 entries. Received: 'dog/1.JPG'")
        patch.setattr(archive, "_MAX_ENTRIES", 3)
        patch.setattr(archive, "_MAX_ENTRY_BYTES", len(png(1)) - 1)
        refused(tmp_path, path.name, path.read_bytes(), r"at most \d+ bytes. Received: 'cat/1.png' in .* of \d+ bytes")
    assert len(list_domain(f"folder:{path}").splits["train"]) == 3


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_folders_are_limited_and_counted(tmp_path, suffix, monkeypatch):
    deep = "/".join(["d"] * 32) + "/1.png"
    path = write(tmp_path, suffix, PHOTOS | {deep: b""})
    refused(tmp_path, path.name, path.read_bytes(), f"at most 32 parts. Received: '{deep}' in ")
    path = write(tmp_path, suffix, {f"{number}/a/b/1.png": png(1) for number in range(3)})
    with monkeypatch.context() as patch:
        patch.setattr(archive, "_MAX_FOLDERS", 8)
        refused(tmp_path, path.name, path.read_bytes(), "at most 8 folders. Received: '2/a/b/1.png' in .* beyond them")
    needed = []
    monkeypatch.setattr(archive, "check_room", lambda folder, count, hint: needed.append(count))
    assert len(list_domain(f"folder:{path}?class_depth=3").splits["train"]) == 3
    # A block for each of 3 files and 9 folders.
    assert needed == [12 * 4096]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0, 0.3, 0.6, 0.95])
def test_an_archive_that_breaks_off_is_damaged(tmp_path, suffix, share):
    noise = random.Random(0).randbytes(3000)
    path = write(tmp_path, suffix, PHOTOS | {"cat/9.png": noise, "dog/9.png": noise[::-1]})
    # A tar ends with 10 KiB of zeros, most of which it does not need.
    content = path.read_bytes()
    content = content[: int(share * len(content.rstrip(b"\0")))]
    refused(tmp_path, path.name, content, "An archive must be whole. Received: '.*photos")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_changed_byte_is_told_or_harmless(tmp_path, suffix):
    path, cache = write(tmp_path, suffix, PHOTOS), tmp_path / "cache"
    content, draw = path.read_bytes(), random.Random(0)
    told = 0
    for _ in range(60):
        position = draw.randrange(len(content.rstrip(b"\0")))
        changed = bytearray(content)
        changed[position] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            images = list_domain(f"folder:{path}", cache_dir=str(cache)).splits["train"].images
        except InputError as error:
            told += 1
            assert "\n" not in str(error)
        else:
            # A tar that is not compressed has checksums of its headers alone.
            assert suffix == ".tar" or {pathlib.Path(image).read_bytes() for image in images} <= {*PHOTOS.values()}
        assert not list(cache.glob("*.unfinished")) and set(os.listdir(tmp_path)) <= {path.name, "cache"}
    assert told


def test_text_and_nothing_are_no_archives(tmp_path):
    for suffix in SUFFIXES:
        for content in (b"", b"<html>404 Not Found</html>" * 100, bytes(4)):
            refused(tmp_path, f"a{suffix}", content, "An archive must be whole")
            (tmp_path / f"a{suffix}").unlink()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_without_images(tmp_path, suffix):
    path = write(tmp_path, suffix, {"notes.txt": b"x", "classes.csv": b"class\n"})
    refused(tmp_path, path.name, path.read_bytes(), r"An archive must hold images \(.jpg, .*Received: '.*photos")
    path = write(tmp_path, suffix, {"1.png": png(1)})
    with pytest.raises(InputError, match="one folder of images for each class. Received: '.*photos"):
        list_domain(f"folder:{path}")


def test_a_size_that_is_a_lie_is_told(tmp_path):
    noise = random.Random(0).randbytes(5000)
    content = make_zip(PHOTOS | {"cat/9.png": noise})
    for told in (4000, 6000):
        lie = content.replace((5000).to_bytes(4, "little"), told.to_bytes(4, "little"))
        assert lie != content
        refused(tmp_path, f"{told}.zip", lie, "An archive must be whole")
        (tmp_path / f"{told}.zip").unlink()
        for left in (tmp_path / "cache").iterdir():
            left.unlink()


def reseal(header):
    """A tar's header with the right checksum."""
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:512]))
    return bytes(header)


def test_headers_of_a_tar_that_are_made_to_do_harm(tmp_path):
    whole = make_tar(PHOTOS)
    negative = bytearray(tarfile.TarInfo("cat/0.png").tobuf())
    negative[124:136] = b"\xff" * 10 + b"\xfc\0"
    refused(tmp_path, "a.tar", whole[:1024] + reseal(negative) + whole[1024:], "must be whole.*below zero")
    (tmp_path / "a.tar").unlink()
    # A header that would be held in memory, 1 GiB of it.
    large = special("x", tarfile.XHDTYPE)
    large.size = 2**30
    packed = gzip.compress(large.tobuf() + bytes(2**20))
    refused(tmp_path, "a.tar.gz", packed, r"must be whole. Received: .* \(a header has 1073741824 bytes\)")
    (tmp_path / "a.tar.gz").unlink()
    # Zeros without end behind the archive.
    endless = gzip.compress(whole + bytes(2**26))
    refused(tmp_path, "b.tgz", endless, r"must be whole.*\(it unpacks to more than \d+ bytes")
    (tmp_path / "b.tgz").unlink()
    refused(tmp_path, "c.tar", whole[:2048] + b"x" * 512 + whole[2048:], "must be whole.*it breaks off")


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, small_disk, monkeypatch):
    noise = random.Random(0).randbytes(700_000)
    path = write(tmp_path, ".zip", {"cat/1.png": noise, "cat/2.png": noise[::-1]})
    with pytest.raises(InputError, match=r"`cache_dir` must have 17 MiB free. Received: .* Hint: another folder\."):
        list_domain(f"folder:{path}", cache_dir=str(small_disk))
    assert [name.partition(".")[2] for name in os.listdir(small_disk)] == ["lock"]
    # Another process takes the room that was there.
    monkeypatch.setattr(archive, "check_room", lambda folder, needed, hint: None)
    with pytest.raises(InputError, match="`cache_dir` must be a folder that can be written.*No space left"):
        list_domain(f"folder:{path}", cache_dir=str(small_disk))
    assert [name.partition(".")[2] for name in os.listdir(small_disk)] == ["lock"]


def test_a_cache_folder_that_is_none_is_told(tmp_path):
    path = write(tmp_path, ".zip", PHOTOS)
    with pytest.raises(InputError, match="`cache_dir` must be a folder that can be written"):
        list_domain(f"folder:{path}", cache_dir=str(path / "cache"))


def test_a_folder_called_like_an_archive_is_a_folder(tmp_path):
    (tmp_path / "photos.zip" / "cat").mkdir(parents=True)
    (tmp_path / "photos.zip" / "cat" / "1.png").write_bytes(png(1))
    assert list_domain(f"folder:{tmp_path}/photos.zip").class_names == ("cat",)
    (tmp_path / "photos.rar").write_bytes(b"")
    with pytest.raises(InputError, match=r"an existing folder, or an archive \(.zip, .tar, .*Received: '.*photos.rar'"):
        list_domain(f"folder:{tmp_path}/photos.rar")


def test_suffixes_of_the_tests_are_all_there_are():
    assert tuple(SUFFIXES) == archive_reader.ARCHIVE_SUFFIXES


SLOWLY = """
import sys, time
from jtln_tf.data import archive
copy = archive._copy
def slowly(*arguments):
    copy(*arguments)
    print("begun", flush=True)
    time.sleep({seconds})
archive._copy = slowly
archive.unpack_archive({path!r}, {cache!r})
"""


@pytest.mark.slow
def test_a_kill_leaves_no_folder_and_a_second_process_waits(tmp_path, monkeypatch):
    path, cache = write(tmp_path, ".zip", PHOTOS), tmp_path / "cache"
    for seconds in (60, 1):
        code = SLOWLY.format(seconds=seconds, path=str(path), cache=str(cache))
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "begun\n"
            (unfinished,) = cache.glob("*.unfinished")
            assert not (cache / unfinished.stem).exists()
            if seconds == 60:
                process.send_signal(signal.SIGKILL)
                continue
            with monkeypatch.context() as patch:
                # The other one writes it.
                patch.setattr(archive, "_write", None)
                folder = archive.unpack_archive(path, cache)
        assert process.returncode == 0 and below(folder) == sorted(PHOTOS)
        assert not list(cache.glob("*.unfinished"))


@pytest.mark.slow
def test_program_packs_an_archive_and_exits_with_2_for_a_bad_one(tmp_path):
    command = [sys.executable, "-m", "tools.prepare_data", f"--cache_dir={tmp_path}/cache", f"--output={tmp_path}/out"]
    good, bad = write(tmp_path, ".tgz", PHOTOS), write(tmp_path, ".tgz", PHOTOS | {"../evil.png": b""}, "bad")
    for path, status, text in ((bad, 2, "'../evil.png'"), (good, 0, "3 images, 2 classes")):
        done = subprocess.run([*command, f"--domain=folder:{path}"], cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == status and text in done.stdout + done.stderr and "Traceback" not in done.stderr
        assert (tmp_path / "cache").exists() == (status == 0)
