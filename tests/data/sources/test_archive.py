"""Archives, those that are made to do harm among them, as real files."""

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
from jtln_tf.data import list_domain, load_domain
from jtln_tf.data.sources import archive
from jtln_tf.data.sources.archive_reader import ARCHIVE_SUFFIXES
from tests.conftest import REPOSITORY

COMPRESS = {".tar": bytes, ".tar.gz": gzip.compress, ".tgz": gzip.compress, ".tar.bz2": bz2.compress}
COMPRESS[".tar.xz"] = lzma.compress


def png(value):
    buffer = io.BytesIO()
    Image.new("L", (8, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


PHOTOS = {"cat/1.png": png(1), "cat/deep/2.png": png(2), "dog/1.JPG": png(3)}


def make_zip(entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return buffer.getvalue()


def make_tar(entries):
    """A tar of files; a content that is a `TarInfo` is written as it is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in entries.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if info is content else content
            info.size = info.size or len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def make(suffix, entries):
    return make_zip(entries) if suffix == ".zip" else COMPRESS[suffix](make_tar(entries))


def write(folder, suffix, entries, name="photos"):
    path = folder / (name + suffix)
    path.write_bytes(make(suffix, entries))
    return path


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refuse(folder, name, content, message):
    """An archive is refused in one line, and again, and leaves nothing but a lock."""
    path, cache = folder / name, folder / "cache"
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(InputError, match=message) as caught:
            list_domain(f"folder:{path}", cache_dir=str(cache))
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
        assert [one for one in cache.rglob("*") if one.suffix != ".lock"] == []
    assert sorted(os.listdir(folder)) == sorted([name, "cache"])


@pytest.mark.parametrize("suffix", [*ARCHIVE_SUFFIXES, ".ZIP", ".Tar.Gz"])
def test_an_archive_is_the_folder_that_was_packed(tmp_path, suffix):
    write(tmp_path, suffix.lower(), PHOTOS).rename(tmp_path / f"photos{suffix}")
    listing = list_domain(f"folder:photos{suffix}", data_root=str(tmp_path))
    assert listing.class_names == ("cat", "dog")
    examples = listing.splits["train"]
    assert examples.names.tolist() == [f"photos{suffix}/{name}" for name in PHOTOS]
    assert [pathlib.Path(image).read_bytes() for image in examples.images] == list(PHOTOS.values())
    assert all(image.startswith(str(tmp_path / ".jtln_cache" / "archive_")) for image in examples.images)
    assert len(files_below(tmp_path / ".jtln_cache")) == len(PHOTOS) + len(["lock"])


@pytest.mark.parametrize("wrap", ["photos/{}", "./{}", "a/b/{}", "photos/train/{}", "photos/pets/{}?class_depth=2"])
def test_a_folder_around_everything_is_taken_off(tmp_path, wrap):
    wrap, _, options = wrap.partition("?")
    path = write(tmp_path, ".tar.gz", {wrap.format(name): PHOTOS[name] for name in ("cat/1.png", "dog/1.JPG")})
    listing = list_domain(f"folder:{path}?{options}", cache_dir=str(tmp_path))
    assert listing.class_names == (("pets/cat", "pets/dog") if options else ("cat", "dog"))


def test_a_single_class_is_no_folder_around_everything(tmp_path):
    path = write(tmp_path, ".zip", {"cat/1.png": png(1)})
    assert list_domain(f"folder:{path}", cache_dir=str(tmp_path)).class_names == ("cat",)


def test_splits_and_a_class_table_of_an_archive(tmp_path):
    parts = {f"photos/{split}/{name}": data for split in ("train", "VAL") for name, data in PHOTOS.items()}
    table = b"class,family\ncat,feline\ndog,canine\n"
    for name, where in (("in", "photos/classes.csv"), ("beside", "classes.csv")):
        path = write(tmp_path, ".zip", {where: table, **parts}, name)
        listing = list_domain(f"folder:{path}?family=canine", cache_dir=str(tmp_path))
        assert listing.class_names == ("dog",) and set(listing.splits) == {"train", "validation"}, name


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_only_images_and_the_class_table_are_unpacked(tmp_path, suffix):
    names = ["__MACOSX/cat/._1.png", "cat/.DS_Store", "cat/._1.png", ".hidden/cat/1.png", "cat/Thumbs.db", "cat/run.sh"]
    others = dict.fromkeys(names, b"x") | {"inner.zip": make_zip(PHOTOS), "classes.csv": b"class\ncat\n", "empty/": b""}
    if suffix == ".tar":
        others["empty/"] = special("empty", tarfile.DIRTYPE)
    folder = archive.unpack_archive(write(tmp_path, suffix, others | PHOTOS), tmp_path / "cache")
    assert files_below(folder) == ["cat/1.png", "cat/deep/2.png", "classes.csv", "dog/1.JPG"]
    assert not (folder / "empty").exists() and not (folder / "__MACOSX").exists()


def test_names_that_macos_and_windows_write(tmp_path):
    # UTF-8 without the flag for it, as the Finder writes; and code page 437.
    unmarked = make_zip({"Käse/1.png": png(1)}).replace(b"\x14\0\0\x08", b"\x14\0\0\0")
    assert not any(one.flag_bits for one in zipfile.ZipFile(io.BytesIO(unmarked)).infolist())
    (tmp_path / "mac.zip").write_bytes(unmarked)
    (tmp_path / "windows.zip").write_bytes(unmarked.replace("Käse".encode(), "Käse_".encode("cp437")))
    for name, expected in (("mac", "Käse"), ("windows", "Käse_")):
        assert list_domain(f"folder:{tmp_path}/{name}.zip", cache_dir=str(tmp_path)).class_names == (expected,)


def test_an_archive_is_unpacked_once_and_again_when_it_changed(tmp_path, monkeypatch):
    path, cache = write(tmp_path, ".zip", PHOTOS), tmp_path / "cache"
    first = archive.unpack_archive(path, cache)
    with monkeypatch.context() as patch:
        patch.setattr(archive, "read_entries", None)
        assert archive.unpack_archive(path, cache) == first and first.name == "photos.zip"
    status = path.stat()
    write(tmp_path, ".zip", {**PHOTOS, "cat/1.png": png(9)})
    # The size and the time are the same; only the checksums at the end differ.
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = archive.unpack_archive(path, cache)
    assert second != first and (second / "cat/1.png").read_bytes() == png(9) != (first / "cat/1.png").read_bytes()


def test_a_bad_image_of_an_archive_is_named(tmp_path):
    path = write(tmp_path, ".tar.xz", {**PHOTOS, "cat/bad.png": b"x"})
    with pytest.raises(InputError, match=r"Every image must be readable. Received: 'photos.tar.xz/cat/bad.png'"):
        load_domain(f"folder:{path}?test_fraction=0&validation_fraction=0", image_size=8, cache_dir=str(tmp_path))


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def add_special_to_zip(mode):
    info = zipfile.ZipInfo("cat/l.png")
    info.external_attr = mode << 16
    return make_zip(PHOTOS | {info: "/etc/passwd"})


def encrypt():
    plain = make_zip({"cat/1.png": png(1)})
    content = plain.replace(b"PK\x03\x04\x14\0\0\0", b"PK\x03\x04\x14\0\x01\0")
    return content.replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\x01\0")


def reseal(header):
    """A tar's header with the right checksum."""
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:512]))
    return bytes(header)


def make_sparse():
    # 8 GiB of zeros in an old GNU header: its size stands at the offset 483, there is no data.
    header = bytearray(special("cat/l.png", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[386:483] = bytes(97)
    header[483:495] = b"%011o\0" % (8 * 2**30 - 1)
    return reseal(header) + make_tar(PHOTOS)


def negative_size():
    whole, header = make_tar(PHOTOS), bytearray(tarfile.TarInfo("cat/0.png").tobuf())
    header[124:136] = b"\xff" * 10 + b"\xfc\0"
    return whole[:1024] + reseal(header) + whole[1024:]


def large_header():
    header = special("x", tarfile.XHDTYPE)
    header.size = 2**30
    return header.tobuf() + bytes(2**20)


NAMES = {
    **{"absolute": "/tmp/evil.png", "above": "../evil.png", "above later": "cat/../../evil.png"},
    **{"drive": "C:/evil.png", "drive without a slash": "c:evil.png", "share": "//host/evil.png"},
    **{"backslash": "..\\evil.png", "long": "cat/" + "x" * 300 + ".png", "deep": "x/" * 1200 + "1.png"},
    **{"not an image": "../../etc/cron.d/evil", "hidden": "__MACOSX/../../evil.png", "zero": "cat/\0.png"},
}
TWICE = "An archive must hold each file once. Received: '{}' "
BOMB = "at most 200 times its size. Received: '{}' "
SPECIAL = r"plain files and folders only. Received: '(cat/l.png|dog/up)' \({}, .*a.(tar|zip)'"
LINK = SPECIAL.format("link or device")
HOSTILE = {
    **{
        f"{key} in {suffix}": (
            suffix,
            lambda name=name, make=make: make(PHOTOS | {name: b""}),
            "a plain path that stays",
        )
        for key, name in NAMES.items()
        for suffix, make in ((".zip", make_zip), (".tar", make_tar))
        # Their writers end a name at a zero byte.
        if key != "zero"
    },
    "zero in .zip": (
        ".zip",
        lambda: make_zip(PHOTOS | {"cat/X.png": b""}).replace(b"X.png", b"\0.png"),
        "a plain path",
    ),
    "no Unicode": (".tar", lambda: make_tar(PHOTOS | {"cat/\udce9.png": b""}), "a plain path that stays inside"),
    **{
        name: (".tar", lambda entry=entry: make_tar(PHOTOS | {"special": entry}), LINK)
        for name, entry in {
            "symlink": special("cat/l.png", tarfile.SYMTYPE, "1.png"),
            "symlink out": special("cat/l.png", tarfile.SYMTYPE, "/etc/passwd"),
            "symlink folder": special("dog/up", tarfile.SYMTYPE, "../.."),
            "hard link out": special("cat/l.png", tarfile.LNKTYPE, "../../etc/passwd"),
            "fifo": special("cat/l.png", tarfile.FIFOTYPE),
            "device": special("cat/l.png", tarfile.CHRTYPE),
        }.items()
    },
    "symlink in .zip": (".zip", lambda: add_special_to_zip(0o120777), LINK),
    "device in .zip": (".zip", lambda: add_special_to_zip(0o020644), LINK),
    "sparse": (".tar", make_sparse, SPECIAL.format("sparse")),
    "encrypted": (".zip", encrypt, r"only. Received: 'cat/1.png' \(encrypted, "),
    "twice": (".zip", lambda: make_zip(PHOTOS | {"./cat/1.png": b""}), TWICE.format("./cat/1.png")),
    "twice in a tar": (
        ".tgz",
        lambda: gzip.compress(make_tar(PHOTOS | {"cat//1.png": b""})),
        TWICE.format("cat//1.png"),
    ),
    "file and folder": (".zip", lambda: make_zip({"a.png/b/1.png": b"", "a.png": b""}), TWICE.format("a.png")),
    "folder of a file": (".tar", lambda: make_tar({"a.png": b"", "a.png/b/1.png": b""}), "no folder of a file's name"),
    "parts": (".zip", lambda: make_zip({"d/" * 32 + "1.png": b""}), "at most 32 parts in its path"),
    **{
        f"bomb in {suffix}": (
            suffix,
            lambda suffix=suffix, name=name: make(suffix, PHOTOS | {name: bytes(20 * 2**20)}),
            BOMB.format(name),
        )
        for suffix, name in (
            (".zip", "cat/bomb.png"),
            (".tar.gz", "notes.txt"),
            (".tar.bz2", "1.png"),
            (".tar.xz", "1.png"),
        )
    },
    "many": (
        ".tgz",
        lambda: make(".tgz", {f"cat/{n}.png": bytes(3 * 2**20) for n in range(7)}),
        BOMB.format("cat/5.png"),
    ),
    "negative size": (".tar", negative_size, "must be whole.*below zero"),
    "large header": (".tgz", lambda: gzip.compress(large_header()), "must be whole.*a header has 1073741824 bytes"),
    "endless": (".tgz", lambda: gzip.compress(make_tar(PHOTOS) + bytes(2**26)), "must be whole.*unpacks to more than"),
    "no header": (".tar", lambda: make_tar(PHOTOS)[:2048] + b"x" * 512 + make_tar(PHOTOS)[2048:], "it breaks off"),
    "size too small": (
        ".zip",
        lambda: make_zip({"1.png": bytes(5000)}).replace((5000).to_bytes(4, "little"), (4000).to_bytes(4, "little")),
        "must be whole.*CRC",
    ),
    "no images": (".tar", lambda: make_tar({"notes.txt": b"x", "classes.csv": b"class\n"}), "must hold images"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", HOSTILE)
def test_an_archive_that_could_do_harm_is_refused(tmp_path, name):
    suffix, make_content, message = HOSTILE[name]
    refuse(tmp_path, f"a{suffix}", make_content(), message)
    assert not (tmp_path.parent / "evil.png").exists() and not os.path.exists("/tmp/evil.png")


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("_MAX_ENTRIES", 2, "at most 2 entries. Received: 'dog/1.JPG'"),
        ("_MAX_FOLDERS", 2, "at most 2 folders. Received: 'dog/1.JPG'"),
        ("_MAX_IMAGE_BYTES", 9, r"at most 9 bytes. Received: 'cat/1.png' \(file, \d+ bytes\)"),
    ],
)
def test_limits(tmp_path, monkeypatch, limit, value, message):
    monkeypatch.setattr(archive, limit, value)
    refuse(tmp_path, "a.tar.bz2", make(".tar.bz2", PHOTOS), message)


@pytest.mark.parametrize("suffix", ARCHIVE_SUFFIXES)
def test_an_archive_that_is_not_whole_is_refused(tmp_path, suffix):
    noise = random.Random(0).randbytes(3000)
    whole = make(suffix, PHOTOS | {"cat/9.png": noise, "dog/9.png": noise[::-1]})
    # A tar ends with 10 KiB of zeros, most of which it does not need.
    size = len(whole.rstrip(b"\0"))
    cut = [whole[: int(share * size)] for share in (0, 0.3, 0.6, 0.95)]
    for content in [*cut, b"<html>404 Not Found</html>" * 100, bytes(4)]:
        refuse(tmp_path, f"a{suffix}", content, "An archive must be whole. Received: '.*a.t?")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_any_changed_byte_is_told_or_harmless(tmp_path, suffix):
    path, cache = write(tmp_path, suffix, PHOTOS), tmp_path / "cache"
    content, draw, told = path.read_bytes(), random.Random(0), 0
    for _ in range(60):
        changed = bytearray(content)
        changed[draw.randrange(len(content.rstrip(b"\0")))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            images = list_domain(f"folder:{path}", cache_dir=str(cache)).splits["train"].images
        except InputError as error:
            told += 1
            assert "\n" not in str(error)
        else:
            # A tar has checksums of its headers alone.
            assert suffix == ".tar" or {pathlib.Path(image).read_bytes() for image in images} <= {*PHOTOS.values()}
        assert not list(cache.glob("*.unfinished")) and set(os.listdir(tmp_path)) <= {path.name, "cache"}
    assert told


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, small_disk, monkeypatch):
    noise = random.Random(0).randbytes(700_000)
    path = write(tmp_path, ".zip", {"cat/1.png": noise, "cat/2.png": noise[::-1]})
    with pytest.raises(InputError, match=r"`cache_dir` must have 17 MiB free. Received: .* Hint: another folder\."):
        list_domain(f"folder:{path}", cache_dir=str(small_disk))
    assert [name.partition(".")[2] for name in os.listdir(small_disk)] == ["lock"]
    # Another process takes the room that was there.
    monkeypatch.setattr(archive, "check_room", lambda *arguments: None)
    with pytest.raises(InputError, match="`cache_dir` must be a folder that can be written.*No space left"):
        list_domain(f"folder:{path}", cache_dir=str(small_disk))
    assert [name.partition(".")[2] for name in os.listdir(small_disk)] == ["lock"]


def test_what_is_no_archive_or_no_folder(tmp_path):
    path = write(tmp_path, ".zip", PHOTOS)
    with pytest.raises(InputError, match="`cache_dir` must be a folder that can be written"):
        list_domain(f"folder:{path}", cache_dir=str(path / "cache"))
    (tmp_path / "folder.zip" / "cat").mkdir(parents=True)
    (tmp_path / "folder.zip" / "cat" / "1.png").write_bytes(png(1))
    assert list_domain(f"folder:{tmp_path}/folder.zip").class_names == ("cat",)
    (tmp_path / "photos.rar").write_bytes(b"")
    with pytest.raises(InputError, match=r"an existing folder, or an archive \(.zip, .tar, .*Received: '.*photos.rar'"):
        list_domain(f"folder:{tmp_path}/photos.rar")


SLOWLY = """
import time
from jtln_tf.data.sources import archive
read_entries = archive.read_entries
def slowly(*arguments):
    for entry in read_entries(*arguments):
        yield entry
        print("begun", flush=True)
        time.sleep({seconds})
archive.read_entries = slowly
archive.unpack_archive({path!r}, {cache!r})
"""


@pytest.mark.slow
def test_a_kill_leaves_no_folder_and_a_second_process_waits(tmp_path, monkeypatch):
    path, cache = write(tmp_path, ".zip", PHOTOS), tmp_path / "cache"
    for seconds in (60, 1):
        command = [sys.executable, "-c", SLOWLY.format(seconds=seconds, path=str(path), cache=str(cache))]
        with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "begun\n"
            (unfinished,) = cache.glob("*.unfinished")
            assert files_below(unfinished) and not (cache / unfinished.stem).exists()
            if seconds == 60:
                process.send_signal(signal.SIGKILL)
                continue
            with monkeypatch.context() as patch:
                # The other process writes it.
                patch.setattr(archive, "_unpack", None)
                folder = archive.unpack_archive(path, cache)
        assert process.returncode == 0 and files_below(folder) == sorted(PHOTOS)
        assert not list(cache.glob("*.unfinished"))
