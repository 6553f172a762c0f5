"""Archives, those that are made to do harm among them, as real files."""

import bz2
import gzip
import io
import lzma
import os
import pathlib
import random
import signal
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import pytest
from PIL import Image

from jtln_tf.config import InputError
from jtln_tf.data import list_domain
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


def write(folder, suffix, entries):
    path = folder / f"photos{suffix}"
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
    examples = list_domain(f"folder:photos{suffix}", data_root=str(tmp_path)).splits["train"]
    assert examples.names.tolist() == [f"photos{suffix}/{name}" for name in PHOTOS]
    assert [pathlib.Path(image).read_bytes() for image in examples.images] == list(PHOTOS.values())
    assert len(files_below(tmp_path / ".jtln_cache")) == 4


@pytest.mark.parametrize("wrap", ["photos/{}", "./{}", "a/b/{}", "photos/train/{}", "photos/pets/{}?class_depth=2"])
def test_a_folder_around_everything_is_taken_off(tmp_path, wrap):
    wrap, _, options = wrap.partition("?")
    path = write(tmp_path, ".tar.gz", {wrap.format(name): PHOTOS[name] for name in ("cat/1.png", "dog/1.JPG")})
    listing = list_domain(f"folder:{path}?{options}", cache_dir=str(tmp_path))
    assert listing.class_names == (("pets/cat", "pets/dog") if options else ("cat", "dog"))


def test_splits_and_a_class_table_of_an_archive(tmp_path):
    parts = {f"photos/{split}/{name}": data for split in ("train", "VAL") for name, data in PHOTOS.items()}
    for where in ("photos/classes.csv", "classes.csv"):
        path = write(tmp_path, ".zip", {where: b"class,family\ncat,feline\ndog,canine\n", **parts})
        listing = list_domain(f"folder:{path}?family=canine", cache_dir=str(tmp_path))
        assert listing.class_names == ("dog",) and set(listing.splits) == {"train", "validation"}, where


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_only_images_and_the_class_table_are_unpacked(tmp_path, suffix):
    names = ["__MACOSX/cat/._1.png", "cat/.DS_Store", ".hidden/cat/1.png", "cat/Thumbs.db", "cat/run.sh"]
    others = dict.fromkeys(names, b"x") | {"inner.zip": make_zip(PHOTOS), "classes.csv": b"class\ncat\n", "empty/": b""}
    if suffix == ".tar":
        others["empty/"] = special("empty", tarfile.DIRTYPE)
    folder = archive.unpack_archive(write(tmp_path, suffix, others | PHOTOS), tmp_path / "cache")
    assert files_below(folder) == ["cat/1.png", "cat/deep/2.png", "classes.csv", "dog/1.JPG"]
    assert not (folder / "empty").exists()


def test_names_that_macos_and_windows_write(tmp_path):
    # UTF-8 without the flag for it, as the Finder writes it, with accents apart; and code page 437.
    unmarked = make_zip({"Ka\u0308se/1.png": png(1)}).replace(b"\x14\0\0\x08", b"\x14\0\0\0")
    assert not any(one.flag_bits for one in zipfile.ZipFile(io.BytesIO(unmarked)).infolist())
    (tmp_path / "mac.zip").write_bytes(unmarked)
    page = "K\u00e4_se".encode("cp437")
    coded = unmarked.replace("Ka\u0308se".encode(), page + b"_")
    # Info-ZIP writes the name in UTF-8 beside it.
    name = "K\u00e4se/1.png".encode()
    told = zipfile.ZipInfo("x" * (len(page) + 7))
    told.extra = struct.pack("<HHBI", 0x7075, len(name) + 5, 1, zlib.crc32(page + b"_/1.png")) + name
    told = make_zip({told: png(1)}).replace(told.filename.encode(), page + b"_/1.png")
    (tmp_path / "told.zip").write_bytes(told)
    for archive_name in ("mac", "told"):
        listing = list_domain(f"folder:{tmp_path}/{archive_name}.zip", cache_dir=str(tmp_path))
        assert listing.class_names == ("K\u00e4se",), archive_name
        assert listing.splits["train"].names[0].endswith("K\u00e4se/1.png") or archive_name == "told"
    (tmp_path / "a").mkdir()
    refuse(tmp_path / "a", "windows.zip", coded, r"name in UTF-8 \(else unpack it.*Received: 'K\\udc84_se_/1.png'")


def test_an_archive_is_unpacked_once_and_again_when_it_changed(tmp_path, monkeypatch):
    path, cache = write(tmp_path, ".zip", PHOTOS), tmp_path / "cache"
    first, status = archive.unpack_archive(path, cache), path.stat()
    with monkeypatch.context() as patch:
        patch.setattr(archive, "read_entries", None)
        assert archive.unpack_archive(path, cache) == first and first.name == "photos.zip"
    write(tmp_path, ".zip", {**PHOTOS, "cat/1.png": png(9)})
    # The size and the time are the same; only the checksums at the end differ.
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = archive.unpack_archive(path, cache)
    assert second != first and (second / "cat/1.png").read_bytes() == png(9) != (first / "cat/1.png").read_bytes()


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def special_in_zip(mode):
    info = zipfile.ZipInfo("cat/l.png")
    info.external_attr = mode << 16
    return info


def damage(content, position, changes):
    """A tar whose header at a position has other bytes at some offsets, and the right checksum."""
    header = bytearray(content[position : position + 512])
    for offset, data in changes.items():
        header[offset : offset + len(data)] = data
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:512]))
    return content[:position] + header + content[position + 512 :]


def encrypt():
    content = make_zip(PHOTOS).replace(b"PK\x03\x04\x14\0\0\0", b"PK\x03\x04\x14\0\x01\0")
    return content.replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\x01\0")


NAMES = ["/tmp/evil.png", "cat/../../evil.png", "c:evil.png", "//host/evil.png", "..\\evil.png"]
NAMES += ["__MACOSX/../../evil.png", "x/" * 600 + "1.png", "x" * 300 + ".png"]
SPECIALS = [special("cat/l.png", kind) for kind in (tarfile.FIFOTYPE, tarfile.BLKTYPE, b"V")]
SPECIALS += [special("cat/l.png", tarfile.SYMTYPE, "1.png"), special("cat/l.png", tarfile.LNKTYPE, "/etc/passwd")]
PLAIN, LINK = "a plain path that stays inside", r"folders only. Received: 'cat/l.png' \(link or device, "
TWICE, BOMB, ZEROS = "each file once. Received: '{}' ", "at most 200 times its size. Received: '{}' ", bytes(20 * 2**20)
ENTRIES = [
    *[(suffix, {name: b""}, PLAIN) for name in NAMES for suffix in (".zip", ".tar")],
    (".tar", {"cat/\udce9.png": b""}, "must have a name in UTF-8"),
    *[(".tar", {"special": entry}, LINK) for entry in SPECIALS],
    *[(".zip", {special_in_zip(mode): b"/etc/passwd"}, LINK) for mode in (0o120777, 0o020644)],
    (".zip", {"./cat/1.png": b""}, TWICE.format("./cat/1.png")),
    (".zip", {"a.png/b/1.png": b"", "a.png": b""}, "a file and a folder of one name. Received: 'a.png' "),
    (".tar", {"a.png": b"", "a.png/b/1.png": b""}, "a file and a folder of one name. Received: 'a.png/b/1.png'"),
    (".zip", {"cat/bomb.png": ZEROS}, BOMB.format("cat/bomb.png")),
    (".tgz", {f"cat/b{n}.png": ZEROS[: 3 * 2**20] for n in range(7)}, BOMB.format("cat/b5.png")),
]


@pytest.mark.parametrize(("suffix", "entries", "message"), ENTRIES)
def test_an_entry_that_could_do_harm_is_refused(tmp_path, suffix, entries, message):
    refuse(tmp_path, f"a{suffix}", make(suffix, PHOTOS | entries), message)
    assert not (tmp_path.parent / "evil.png").exists() and not os.path.exists("/tmp/evil.png")


LIMITS = {"_MAX_ENTRIES": "2 entries", "_MAX_FOLDERS": "2 folders", "_MAX_FILE_BYTES": "2 bytes"}


@pytest.mark.parametrize("limit", LIMITS)
def test_limits(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(archive, limit, 2)
    refuse(tmp_path, "a.tar.bz2", make(".tar.bz2", PHOTOS), f"at most {LIMITS[limit]}. Received: '(cat|dog)/1.")


TAR, ZIP = make_tar(PHOTOS), make_zip(PHOTOS | {"cat/X.png": bytes(5000)})
# An old GNU header tells the size of a sparse file, 8 GiB, at the offset 483; there is no data.
SPARSE = {156: tarfile.GNUTYPE_SPARSE, 257: b"ustar  \0", 386: bytes(97), 483: b"%011o\0" % (8 * 2**30 - 1)}
HUGE_HEADER = {156: tarfile.XHDTYPE, 124: b"%011o\0" % 2**30}
CONTENTS = {
    "zero.zip": (ZIP.replace(b"X.png", b"\0.png"), PLAIN),
    "encrypted.zip": (encrypt(), r"only. Received: 'cat/1.png' \(encrypted, "),
    "sparse.tar": (damage(TAR, 0, SPARSE), r"folders only. Received: 'cat/1.png' \(sparse, "),
    "negative.tar": (damage(TAR, 0, {124: b"\xff" * 10 + b"\xfc\0"}), "must be whole.*below zero"),
    "header.tgz": (gzip.compress(damage(TAR, 0, HUGE_HEADER) + ZEROS), "must be whole.*a header has 1073741824 bytes"),
    "endless.tgz": (gzip.compress(TAR + bytes(2**26)), "must be whole.*unpacks to more than"),
    "header.tar": (TAR[:1024] + b"x" * 512 + TAR[1024:], "must be whole.*it breaks off"),
    "zeros.tar": (TAR[:1024] + bytes(512) + TAR[1024:], "must be whole.*more after its end"),
    "size.zip": (ZIP.replace((5000).to_bytes(4, "little"), (4000).to_bytes(4, "little")), "must be whole.*CRC"),
    "none.tar": (make_tar({"notes.txt": b"x", "classes.csv": b"class\n"}), r"must hold images \(.jpg, "),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_an_archive_that_is_made_to_do_harm_is_refused(tmp_path, name):
    refuse(tmp_path, name, *CONTENTS[name])


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz", ".tar.xz"])
def test_an_archive_that_is_not_whole_is_refused(tmp_path, suffix):
    noise = random.Random(0).randbytes(3000)
    whole = make(suffix, PHOTOS | {"cat/9.png": noise, "dog/9.png": noise[::-1]})
    # A tar ends with 10 KiB of zeros, most of which it does not need.
    size = len(whole.rstrip(b"\0"))
    cut = [whole[: int(share * size)] for share in (0, 0.3, 0.95)]
    for content in [*cut, b"<html>404 Not Found</html>" * 100]:
        refuse(tmp_path, f"a{suffix}", content, "An archive must be whole. Received: '.*a.t?")


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, small_disk, monkeypatch):
    noise = random.Random(0).randbytes(700_000)
    path = write(tmp_path, ".zip", {"cat/1.png": noise, "cat/2.png": noise[::-1]})
    with pytest.raises(InputError, match=r"`cache_dir` must have 17 MiB free. Received: .* Hint: another folder\."):
        list_domain(f"folder:{path}", cache_dir=str(small_disk))
    # Another process takes the room that was there.
    monkeypatch.setattr(archive, "check_room", lambda *arguments: None)
    with pytest.raises(InputError, match="`cache_dir` a folder that can be written.*No space left"):
        list_domain(f"folder:{path}", cache_dir=str(small_disk))
    assert [name.partition(".")[2] for name in os.listdir(small_disk)] == ["lock"]


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
