import errno
import os
import shutil

import pytest

from jtln_tf.config import DataConfig, ExperimentConfig, InputError, MissingInputError, TrainingConfig
from jtln_tf.experiment.workdir import (
    begin_workdir,
    check_classes,
    check_workdir,
    read_config,
    read_result,
    write_json,
    write_whole,
)

CONFIG = ExperimentConfig(data=DataConfig(source="builtin:mnist5k", target="builtin:optdigits"))
CLASSES = {"source": ["0", "1"], "target": ["0", "1"]}
OTHER = ExperimentConfig(data=CONFIG.data, training=TrainingConfig(steps=7))


@pytest.fixture
def run(tmp_path):
    """A folder that holds a run of CONFIG."""
    begin_workdir(tmp_path / "run", CONFIG, CLASSES)
    return tmp_path / "run"


def test_begin_makes_the_folder_and_its_configuration(tmp_path):
    workdir = tmp_path / "a" / "b" / "ünïcode run"
    check_workdir(workdir, CONFIG)
    assert not (tmp_path / "a").exists()
    begin_workdir(workdir, CONFIG, CLASSES)
    assert read_config(workdir) == CONFIG
    assert sorted(os.listdir(workdir)) == ["classes.json", "config.json"]


def test_folder_of_other_files_may_be_used(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    check_workdir(tmp_path, CONFIG)
    begin_workdir(tmp_path, CONFIG, CLASSES)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_run_is_only_gone_on_with_when_asked(run):
    with pytest.raises(InputError, match="must not hold a run.*--resume goes on with it, --overwrite begins anew"):
        check_workdir(run, CONFIG)
    check_workdir(run, CONFIG, resume=True)
    check_workdir(run, CONFIG, overwrite=True)


@pytest.mark.parametrize("resume", [False, True])
def test_run_of_another_configuration_is_refused(run, resume):
    with pytest.raises(InputError, match="another configuration.*differs in steps: 500 -> 7. Hint: .*--overwrite"):
        check_workdir(run, OTHER, resume=resume)
    check_workdir(run, OTHER, overwrite=True)


def test_only_the_first_differences_are_listed(run):
    config = ExperimentConfig(data=CONFIG.data, training=TrainingConfig(steps=1, seed=2, momentum=0.5, schedule="step"))
    with pytest.raises(InputError, match="steps: 500 -> 1; .*; .* and 1 more"):
        check_workdir(run, config, resume=True)


def test_resume_of_nothing_begins(tmp_path):
    check_workdir(tmp_path / "new", CONFIG, resume=True)


def test_resume_and_overwrite_exclude_each_other(tmp_path):
    with pytest.raises(InputError, match="`resume` and `overwrite` exclude each other"):
        check_workdir(tmp_path, CONFIG, resume=True, overwrite=True)


@pytest.mark.parametrize("workdir", ["file", "file/below"])
def test_file_in_the_place_of_the_folder(tmp_path, workdir):
    (tmp_path / "file").write_text("mine")
    for call in (check_workdir, lambda *arguments: begin_workdir(*arguments, CLASSES)):
        with pytest.raises(InputError, match="`workdir` must be a folder that can be written"):
            call(tmp_path / workdir, CONFIG)
    assert (tmp_path / "file").read_text() == "mine"


def test_name_that_no_folder_can_have(tmp_path):
    workdir = tmp_path / ("x" * 300)
    check_workdir(workdir, CONFIG)
    with pytest.raises(InputError, match="`workdir` must be a folder that can be written"):
        begin_workdir(workdir, CONFIG, CLASSES)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o000)
    with pytest.raises(InputError, match="`workdir` must be a folder that can be written"):
        check_workdir(tmp_path / "closed" / "run", CONFIG)


def test_folder_that_may_not_be_looked_into(tmp_path, monkeypatch):
    real_stat = os.stat

    def stat(path, *args, **options):
        if str(path).endswith("closed/run"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_stat(path, *args, **options)

    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="`workdir` must be a folder that can be written"):
        check_workdir(tmp_path / "closed" / "run", CONFIG)


def test_too_little_space(run, monkeypatch):
    (run / "result.json").write_text("{}")
    usage = shutil.disk_usage(run)._replace(free=20 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="`workdir` must have 26 MiB free.* with 20 MiB"):
        begin_workdir(run, OTHER, CLASSES, overwrite=True, needed_bytes=10 * 2**20)
    assert read_config(run) == CONFIG and (run / "result.json").exists()
    begin_workdir(run, OTHER, CLASSES, overwrite=True, needed_bytes=4 * 2**20)
    assert read_config(run) == OTHER


def test_too_little_space_for_a_folder_that_does_not_exist(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="MiB free"):
        begin_workdir(tmp_path / "a" / "b", CONFIG, CLASSES)
    assert not (tmp_path / "a").exists()


def test_overwrite_removes_the_run_and_keeps_other_files(run):
    for name in ("result.json", "evaluation.json", "cost_matrix.npz", "metrics.jsonl", "mine.csv"):
        (run / name).write_text("x")
    for name in ("checkpoints", "tensorboard", "export", "mine"):
        (run / name).mkdir()
        (run / name / "file").write_text("x")
    begin_workdir(run, OTHER, CLASSES, overwrite=True)
    assert sorted(os.listdir(run)) == ["classes.json", "config.json", "mine", "mine.csv"]
    assert (run / "mine" / "file").exists() and read_config(run) == OTHER


def test_begin_without_overwrite_keeps_the_run(run):
    (run / "metrics.jsonl").write_text("x")
    begin_workdir(run, CONFIG, CLASSES)
    assert (run / "metrics.jsonl").read_text() == "x"


def test_read_config_of_a_folder_without_a_run(tmp_path):
    for workdir in (tmp_path, tmp_path / "none"):
        with pytest.raises(MissingInputError, match="`workdir` must hold a run.*without config.json"):
            read_config(workdir)


@pytest.mark.parametrize("content", [b"{", b"{}", b"\xff\xfe", b'{"data": 1}', b""])
def test_read_config_that_is_broken(run, content):
    (run / "config.json").write_bytes(content)
    with pytest.raises(InputError, match="`workdir` must hold a run that can be read.*config.json"):
        read_config(run)
    with pytest.raises(InputError, match="that can be read"):
        check_workdir(run, CONFIG, resume=True)
    check_workdir(run, CONFIG, overwrite=True)


def test_result_is_written_and_read(run):
    assert read_result(run) is None
    write_json(run / "result.json", {"class": "Käse", "accuracy": 0.5})
    assert read_result(run) == {"class": "Käse", "accuracy": 0.5}
    assert "Käse" in (run / "result.json").read_text("utf-8")


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_write_whole_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch, step):
    path = tmp_path / "a.json"
    write_whole(path, "old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes" if step == "write_bytes" else "os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    monkeypatch.undo()
    write_whole(path, "new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.json"]


def test_full_disk_is_told_before_the_run(small_disk):
    with pytest.raises(InputError, match="`workdir` must have 16 MiB free.* with 1 MiB"):
        begin_workdir(small_disk / "run", CONFIG, CLASSES)
    assert os.listdir(small_disk) == []


def test_disk_that_fills_up_while_writing(small_disk, monkeypatch):
    write_whole(small_disk / "a.json", "old")
    with pytest.raises(OSError, match="No space left"):
        write_whole(small_disk / "a.json", "x" * 2**21)
    assert (small_disk / "a.json").read_text() == "old" and os.listdir(small_disk) == ["a.json"]
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "another").write_bytes(bytes(2**21))
    usage = shutil.disk_usage(small_disk)._replace(free=2**40)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        InputError, match=r"`workdir` must be a folder that can be written.*\(No space left on device\)"
    ):
        begin_workdir(small_disk / "run", CONFIG, CLASSES)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_run_keeps_what_is_called_like_ours(tmp_path, overwrite):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "thesis.txt").write_text("mine")
    with pytest.raises(
        InputError, match="`workdir` must be a new folder or that of a run.*'export' but no config.json"
    ):
        check_workdir(tmp_path, CONFIG, overwrite=overwrite)
    assert (tmp_path / "export" / "thesis.txt").read_text() == "mine"


def test_classes_that_changed_are_named(run):
    check_classes(run, CLASSES)
    with pytest.raises(InputError, match="The target classes must be those of the run.*'1', '2'"):
        check_classes(run, {**CLASSES, "target": ["0", "2"]})
    with pytest.raises(InputError, match="The source classes must be those of the run.*another order"):
        check_classes(run, {**CLASSES, "source": ["1", "0"]})
