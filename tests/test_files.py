import errno
import json
import os
import shutil

import pytest

from jtln_tf import files
from jtln_tf.config import InputError


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a[1].json"
    files.write_json(path, {"class": "Käse"})
    assert "Käse" in path.read_text("utf-8")
    # As Python names a file that is not UTF-8.
    files.write_json(path, {"class": "Käse", "file": "\udcff.png"})
    assert json.loads(path.read_text("utf-8"))["file"] == "\udcff.png"

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        files.write_whole(path, "new")
    assert "Käse" in path.read_text("utf-8") and os.listdir(tmp_path) == ["a[1].json"]


def test_a_disk_that_fills_up_leaves_the_old_file(small_disk):
    files.write_whole(small_disk / "a", b"old")
    with pytest.raises(OSError, match="No space left"):
        files.write_whole(small_disk / "a", "x" * 2**21)
    assert (small_disk / "a").read_bytes() == b"old" and os.listdir(small_disk) == ["a"]


def test_room_on_the_disk_is_checked_for_a_folder_that_does_not_exist(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=20 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="`workdir` must have 26 MiB free.* with 20 MiB. Hint: another"):
        files.check_room(tmp_path / "a" / "b", 10 * 2**20, "workdir", "another")


def make_marked(folder):
    (folder / "own").mkdir(parents=True)
    (folder / "log.1").write_text("x")
    files.mark_folder(folder, "thing", 3)
    return folder


def test_only_a_marked_folder_with_nothing_else_in_it_is_removed(tmp_path):
    folder, names = make_marked(tmp_path / "marked"), ("own", "log.*")
    (folder / "log.1.123.unfinished").write_text("x")
    assert files.marked_version(folder, "thing") == 3 and files.marked_version(folder, "other") is None
    files.remove_marked(folder, "thing", names, "output")
    assert not folder.exists()
    files.remove_marked(folder, "thing", names, "output")

    def spoil(name):
        spoilt = make_marked(tmp_path / name)
        if name == "with notes":
            (spoilt / "notes.txt").write_text("mine")
        elif name == "with a file inside":
            (spoilt / "own" / "notes.txt").write_text("mine")
        elif name == "with a name like ours":
            (spoilt / "thesis.unfinished").write_text("mine")
        elif name == "link":
            shutil.move(spoilt, tmp_path / "elsewhere")
            spoilt.symlink_to(tmp_path / "elsewhere")
        else:
            (spoilt / "jtln_tf.json").write_text({"no mark": "[]", "another mark": '{"program": "x"}'}[name])
        return spoilt

    for name in ("with notes", "with a file inside", "with a name like ours", "link", "no mark", "another mark"):
        spoilt = spoil(name)
        before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
        with pytest.raises(InputError, match="`output` must .*, which is left as it is"):
            files.remove_marked(spoilt, "thing", names, "output")
        assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_what_a_kill_leaves_of_a_folder_can_still_be_removed(tmp_path, monkeypatch):
    folder, names = make_marked(tmp_path / "marked"), ("own", "log.*")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        files.remove_marked(folder, "thing", names, "output")
    files.remove_marked(folder, "thing", names, "output")
    folder.mkdir()
    (folder / "jtln_tf.json.9.unfinished").write_text("{")
    files.remove_marked(folder, "thing", names, "output")
    assert os.listdir(tmp_path) == []


def test_locking_leaves_what_is_in_a_file(tmp_path):
    (tmp_path / "run.lock").write_text("mine")
    with files.lock(tmp_path / "run.lock"):
        pass
    with files.sole_writer(tmp_path / "run.lock", "workdir"):
        pass
    assert (tmp_path / "run.lock").read_text() == "mine"


def test_a_folder_has_one_writer(tmp_path):
    again = files.sole_writer(tmp_path / "lock", "workdir")
    refused = pytest.raises(InputError, match="`workdir` must not be in use by another process")
    with files.sole_writer(tmp_path / "lock", "workdir"), refused, again:
        pass
    with files.sole_writer(tmp_path / "lock", "workdir"):
        pass
