"""Archives by chance: right ones give what was packed, damaged and hostile ones that or one line, and soon."""

import bz2
import contextlib
import gzip
import io
import lzma
import pathlib
import random
import resource
import shutil
import tarfile
import time
import unicodedata
import warnings
import zipfile

import pytest

from jtln_tf.config import InputError
from jtln_tf.data import list_domain
from jtln_tf.data.sources import archive

SPLITS = {"train": ["train", "Training", "TRAIN"], "validation": ["val", "Valid", "validation", "dev"]}
SPLITS["test"] = ["test", "Testing", "TEST"]
CLASSES = ["cat", "Wolf, gray", "l'été", "Ka\u0308se", "数字", "x y", "50%", "[a]*", "C#", "-", "a.png.d", "ñ" * 80]
JUNK = ["__MACOSX/cat/._1.png", "cat/.DS_Store", ".git/cat/1.png", "notes.txt", "Thumbs.db", "a/run.sh", "inner.zip"]
COMPRESS = {"tar": bytes, "tar.gz": gzip.compress, "tgz": gzip.compress, "tar.bz2": bz2.compress}
COMPRESS["tar.xz"] = lzma.compress
# Set for the test: more than right ones unpack to, and little, so that bombs are made soon.
HARMLESS_BYTES, MOST_KIB = 2**18, 2**18

NUM_EACH = 2000 // 7 + 1


def make_files(rng):
    """Returns the files of an archive, the options of its specification, and (class, content) by split."""
    depth = rng.choice([1, 1, 2])
    names = ["/".join(pair) for pair in zip(rng.sample(CLASSES, 4), rng.sample(CLASSES, 4), strict=True)]
    names = names[: rng.randint(2, 4)] if depth == 2 else rng.sample(CLASSES, rng.randint(2, 5))
    chosen = rng.choice([[], ["train"], ["train", "test"], [*SPLITS]])
    prefix, files, expected = rng.choice(["", "./", "photos/", "a/b/", "Fotos ü/"]), {}, {}
    for split in chosen or ["train"]:
        folder = prefix + (rng.choice(SPLITS[split]) + "/" if chosen else "")
        for name in names if split == "train" else rng.sample(names, rng.randint(1, len(names))):
            form = unicodedata.normalize(rng.choice(["NFC", "NFD"]), name)
            for number in range(rng.randint(1, 3)):
                content = rng.randbytes(rng.choice([0, 9, 600, 2000])) + b"%d" % len(files)
                path = f"{folder}{form}/{rng.choice(['', 'deep/'])}{number}{rng.choice(['.png', '.JPG', '.tif'])}"
                files[path] = content
                expected.setdefault(split, []).append((unicodedata.normalize("NFC", name), content))
    table = b"class,family\n" + f'"{names[0]}",F\n'.encode()
    files |= {prefix + name: b"junk" for name in rng.sample(JUNK, rng.randrange(3))}
    files |= {rng.choice(["", prefix]) + "Classes.CSV": table} if rng.random() < 0.3 else {}
    order = rng.sample(list(files), len(files))
    return {name: files[name] for name in order}, f"?class_depth={depth}", expected


class UnmarkedName(zipfile.ZipInfo):
    """An entry whose name is UTF-8 without saying so, as macOS writes it."""

    def _encodeFilenameFlags(self):
        return self.filename.encode(), self.flag_bits & ~0x800


def make_zip(rng, entries):
    buffer, make_info = io.BytesIO(), rng.choice([zipfile.ZipInfo, UnmarkedName])
    method = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(buffer, "w") as file, warnings.catch_warnings(action="ignore"):
        for name, content in entries:
            info, is_file = make_info(name), isinstance(content, bytes)
            info.external_attr = (0o100644 if is_file else content) << 16
            if name.endswith("/"):
                info.external_attr = rng.choice([0o40755 << 16, 0x10])
            info.compress_type = zipfile.ZIP_DEFLATED if is_file and len(content) > HARMLESS_BYTES else method
            file.writestr(info, content if is_file else b"/etc/passwd")
    return buffer.getvalue()


def make_tar(rng, entries):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])) as file:
        for name, content in entries:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            if not isinstance(content, bytes):
                info.type, info.linkname, content = rng.choice(SPECIAL_TYPES), rng.choice(["/etc/passwd", "1.png"]), b""
            info.size, info.mode = len(content), rng.choice([0o644, 0, 0o7777])
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


SPECIAL_TYPES = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
SPECIAL_MODES = [0o120777, 0o020644, 0o010644, 0o140644]
EVIL = ["/tmp/evil.png", "../../evil.png", "cat/../../evil.png", "c:evil.png", "..\\evil.png", "x" * 300 + ".png"]


def make_hostile(rng, files, suffix):
    """Returns an entry that makes an archive one to refuse."""
    # Without compression there is no bomb.
    kinds = ["path", "special", "twice", "inside", *(["bomb"] if suffix != "tar" else [])]
    kind, first = rng.choice(kinds), next(iter(files))
    bomb = (f"cat/{rng.random()}.png", bytes(2 * HARMLESS_BYTES))
    entries = {"path": (rng.choice(EVIL), b"x"), "special": ("cat/link.png", rng.choice(SPECIAL_MODES)), "bomb": bomb}
    entries |= {"twice": (rng.choice(["", "./"]) + first, b"other"), "inside": (f"{first}/1.png", b"x")}
    return entries[kind]


def damage(rng, content):
    content = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(content) + 1)
        block = place // 512 * 512
        change = rng.choice(["flip", "flip", "byte", "cut", "drop", "zeros", "twice"])
        if change == "flip" and place < len(content):
            content[place] ^= 1 << rng.randrange(8)
        elif change == "byte":
            content[place : place + 1] = rng.randbytes(1)
        elif change == "cut":
            del content[place:]
        elif change == "drop":
            del content[block : block + 512]
        elif change == "zeros":
            content[block : block + 512] = bytes(len(content[block : block + 512]))
        else:
            content[place:place] = content[place : place + 600]
    return bytes(content)


def read(path, options, cache):
    """Returns (class, content) of each image by split."""
    listing = list_domain(f"folder:{path}{options}", cache_dir=str(cache))
    return {
        split: sorted(
            (listing.class_names[label], pathlib.Path(image).read_bytes())
            for image, label in zip(examples.images, examples.labels, strict=True)
        )
        for split, examples in listing.splits.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["zip", "ZIP", *COMPRESS])
def test_archives_by_chance(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(archive, "_HARMLESS_BYTES", HARMLESS_BYTES)
    monkeypatch.setattr(archive, "_MAX_RATIO", 5)
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    path, cache = folder / f"photos.{suffix}", folder / "cache"
    num_right = num_refused = 0
    for seed in range(NUM_EACH):
        rng = random.Random(f"{suffix} {seed}")
        files, options, expected = make_files(rng)
        expected = {split: sorted(rows) for split, rows in expected.items()}
        entries = [*files.items(), *[(name, b"") for name in rng.choice([[], ["empty/"]])]]
        kind = rng.choice(["right", "right", "hostile", "damaged", "damaged"])
        if kind == "hostile":
            entries.insert(rng.randrange(len(entries) + 1), make_hostile(rng, files, suffix))
        content = make_zip(rng, entries) if suffix.lower() == "zip" else COMPRESS[suffix](make_tar(rng, entries))
        path.write_bytes(damage(rng, content) if kind == "damaged" else content)
        start, found = (time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss), None
        try:
            found = read(path, options, cache)
        except InputError as error:
            assert kind != "right" and len(str(error).splitlines()) == 1 and len(str(error)) < 1200, (seed, error)
            num_refused += 1
        assert time.process_time() - start[0] < 5, seed
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start[1] < MOST_KIB, seed
        if found is not None:
            assert kind != "hostile", seed
            # A tar that is not compressed has no checksums of what its files hold, and of long names.
            assert found == expected or (kind == "damaged" and suffix == "tar"), seed
            num_right += 1
        assert not (tmp_path / "evil.png").exists() and not pathlib.Path("/tmp/evil.png").exists(), seed
        assert {one.name for one in folder.iterdir()} == {path.name, "cache"} and len(list(tmp_path.iterdir())) == 1
        assert not any(one.is_symlink() or not (one.is_file() or one.is_dir()) for one in cache.rglob("*")), seed
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(cache)
    assert num_right > NUM_EACH // 3 and num_refused > NUM_EACH // 5
