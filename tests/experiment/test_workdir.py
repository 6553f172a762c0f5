import os
import shutil

import numpy as np
import pytest

from jtln_tf.config import DataConfig, InputError, MissingInputError, TrainingConfig, pretrained
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.experiment.workdir import Run
from jtln_tf.files import mark_folder

CONFIG = ExperimentConfig(DataConfig(source="builtin:mnist5k", target="builtin:optdigits")).resolve()
OTHER = ExperimentConfig(CONFIG.data, CONFIG.network, TrainingConfig(steps=7)).resolve()
CLASSES = {"source": ["0", "1"], "target": ["0", "1"]}
BEGUN = ["checkpoints", "classes.json", "config.json", "jtln_tf.json", "run.lock", "tensorboard"]


def begin(folder, config=CONFIG, *, needed_bytes=0, **claim):
    run = Run(folder, config)
    run.claim(**claim)
    with run.begin(CLASSES, needed_bytes):
        return run


@pytest.fixture
def folder(tmp_path):
    """A folder that holds a run of CONFIG; its name is a pattern."""
    return begin(tmp_path / "seed[1] *ü").folder


def content(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def test_a_run_is_begun_beside_what_is_the_users_and_opened(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    Run(tmp_path / "a" / "b", CONFIG).claim()
    assert not (tmp_path / "a").exists()
    for folder in (tmp_path / "a" / "b", tmp_path):
        run = begin(folder)
        assert Run.open(folder).config == CONFIG and set(BEGUN) <= set(os.listdir(folder))
        assert not run.is_resumed and run.read_result() is None and run.read_costs() is None
    assert (tmp_path / "mine.txt").read_text() == "mine"
    with pytest.raises(MissingInputError, match="`workdir` must hold a run.*without config.json"):
        Run.open(tmp_path / "none")


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (CONFIG, {}, "--resume goes on with it, --overwrite begins anew"),
        (OTHER, {}, "of another configuration.*differs in steps: 0 -> 7. Hint: another folder, or --overwrite"),
        (
            ExperimentConfig(training=TrainingConfig(steps=1, seed=2, momentum=0.5)),
            {"resume": True},
            "differs in source: 'builtin:mnist5k' -> ''; .*; steps: 0 -> 1 and 2 more",
        ),
    ],
)
def test_a_run_is_only_gone_on_with_if_it_is_the_same_and_asked_for(folder, config, options, message):
    before = content(folder)
    with pytest.raises(InputError, match=f"`workdir` must not hold a run.*{message}"):
        Run(folder, config).claim(**options)
    assert content(folder) == before


def test_the_same_call_again_is_no_other_configuration(tmp_path):
    """What it leaves to the program, such as the number of steps, is in the run."""
    begin(tmp_path, CONFIG.resolve_steps({"source": 100, "target": 30}))
    assert Run.open(tmp_path).config.training.steps
    with pytest.raises(InputError, match="Hint: --resume goes on with it, --overwrite begins anew"):
        Run(tmp_path, CONFIG).claim()
    run = Run(tmp_path, CONFIG)
    run.claim(overwrite=True)
    assert run.config == CONFIG


def test_an_automatic_backbone_is_written_by_name_and_stays_what_it_was(tmp_path, monkeypatch):
    config = ExperimentConfig(DataConfig(source="folder:a", target="folder:b"))
    monkeypatch.setattr(pretrained, "find_lite0_weights", lambda: None)
    monkeypatch.setattr(pretrained, "_has_fallback", lambda: True)
    begin(tmp_path, config)
    begun = Run.open(tmp_path).config.network
    assert (begun.backbone, begun.weights) == ("EfficientNetV2B0", "imagenet")
    # The package is installed later.
    monkeypatch.setattr(pretrained, "find_lite0_weights", lambda: tmp_path / "some.pth")
    assert begin(tmp_path, config, resume=True).is_resumed
    assert not begin(tmp_path, config, overwrite=True).is_resumed
    assert Run.open(tmp_path).config.network.backbone == "efficientnet_lite0"


def test_what_resume_keeps(folder):
    (folder / "metrics.jsonl").write_text("x")
    (folder / "checkpoints" / "last.npz.77.unfinished").write_text("x")
    for overwrite in (False, True):
        assert begin(folder, resume=True, overwrite=overwrite).is_resumed
    assert sorted(os.listdir(folder)) == sorted([*BEGUN, "metrics.jsonl"])
    assert os.listdir(folder / "checkpoints") == ["jtln_tf.json"]


@pytest.mark.parametrize("resume", [False, True])
def test_overwrite_removes_the_run_and_nothing_else(folder, resume):
    run = Run(folder, CONFIG)
    run.write_result({"class": "Käse"})
    run.write_evaluation({})
    run.write_costs(CostMatrix(np.zeros((1, 1)), ("a",), ("b",)))
    assert run.read_result() == {"class": "Käse"} and run.read_costs().source_classes == ("a",)
    for path in (run.metrics, run.checkpoints / "last.npz", run.checkpoints / "best.npz", folder / "mine.csv"):
        path.write_text("x")
    run.export.mkdir()
    mark_folder(run.export, "export")
    assert not begin(folder, OTHER, resume=resume, overwrite=True).is_resumed
    assert sorted(os.listdir(folder)) == sorted([*BEGUN, "mine.csv"])
    assert Run.open(folder).config == OTHER and os.listdir(folder / "checkpoints") == ["jtln_tf.json"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../mine/config.json", "must be a new folder or that of a run of this version.*holds 'config.json' but no"),
        ("checkpoints/thesis.txt", "must hold nothing but what this program wrote.*'thesis.txt'"),
        ("export/classes.json", "must be a new folder, or one of kind 'export'"),
    ],
)
def test_overwrite_leaves_what_is_not_ours(folder, path, message):
    path = folder / path
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    before = content(folder.parent)
    with pytest.raises(InputError, match=f"`workdir` .*{message}"):
        begin(path.parent if "mine" in path.parts else folder, OTHER, overwrite=True)
    assert content(folder.parent) == before


def test_a_former_run_without_a_mark_is_neither_opened_nor_replaced(folder):
    (folder / "jtln_tf.json").unlink()
    before = content(folder)
    with pytest.raises(InputError, match="`workdir` must hold a run of this version of the program"):
        Run.open(folder)
    with pytest.raises(InputError, match="holds 'config.json' but no mark of such a run. Hint: a new folder"):
        begin(folder, overwrite=True)
    assert content(folder) == before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("jtln_tf.json", '{"program": "jtln_tf", "kind": "run", "version": 1}', "of this version of the program"),
        ("config.json", "\x00", "that can be read.*config.json"),
        ("config.json", '{"data": 1}', "that can be read.*config.json.*its digest does not fit"),
    ],
)
def test_a_run_that_cannot_be_read_is_told_and_may_be_replaced(folder, name, text, message):
    (folder / name).write_text(text)
    for call in (lambda: Run.open(folder), lambda: Run(folder, CONFIG).claim(resume=True)):
        with pytest.raises(InputError, match=f"`workdir` must hold a run {message}"):
            call()
    assert not begin(folder, resume=True, overwrite=True).is_resumed and Run.open(folder).config == CONFIG


def test_a_result_that_is_damaged_edited_or_another_runs_is_found_anew(folder, tmp_path, caplog):
    run, other = Run.open(folder), Run.open(begin(tmp_path / "other").folder)
    path, spoilt = folder / "result.json", [lambda text: text[:-9], lambda text: text.replace("0.5", "0.9")]
    spoilt += [lambda text: (other.folder / "result.json").read_text(), lambda text: "[]", lambda text: "\udcff"]
    for one in (run, other):
        one.write_result({"target_accuracy": 0.5, "steps": 3})
    assert run.read_result() == {"target_accuracy": 0.5, "steps": 3}
    for number, spoil in enumerate(spoilt):
        run.write_result({"target_accuracy": 0.5, "steps": 3})
        path.write_bytes(spoil(path.read_text()).encode("utf-8", "surrogateescape"))
        assert run.read_result() is None, number
    assert len([one for one in caplog.messages if "the result is found anew" in one]) == len(spoilt)


def test_a_run_of_an_older_release_has_no_name_and_no_digests(folder):
    mark_folder(folder, "run", 2)
    (folder / "config.json").write_text(CONFIG.to_json())
    (folder / "classes.json").write_text('{"source": ["0", "1"], "target": ["0", "1"]}')
    (folder / "result.json").write_text('{"target_accuracy": 0.5, "steps": 3}')
    run = Run.open(folder)
    run.check_classes(CLASSES)
    assert run.read_result() == {"target_accuracy": 0.5, "steps": 3}
    assert begin(folder, resume=True).name == "" and Run.open(folder).config == CONFIG


def test_a_run_is_extended_in_what_may_change_and_its_former_result_goes(folder):
    Run.open(folder).write_result({"steps": 3})
    more = ExperimentConfig(CONFIG.data, CONFIG.network, TrainingConfig(steps=7, head_learning_rate=0.5)).resolve()
    with pytest.raises(InputError, match="differs in steps: 0 -> 7; head_learning_rate: 0.001 -> 0.5"):
        begin(folder, more, resume=True)
    with pytest.raises(InputError, match="--resume goes on with it|another configuration"):
        begin(folder, more, extend=True)
    run = begin(folder, more, resume=True, extend=True)
    assert run.is_resumed and run.is_extended and run.begun == CONFIG and run.read_result() is None
    assert Run.open(folder).config == more
    other = ExperimentConfig(CONFIG.data, CONFIG.network, TrainingConfig(steps=9, seed=1, optimizer="sgd")).resolve()
    with pytest.raises(InputError, match=r"differs in optimizer: 'adamw' -> 'sgd'; seed: 0 -> 1\."):
        begin(folder, other, resume=True, extend=True)


def test_a_run_without_a_checkpoint_begins_anew_only_if_it_never_had_one(folder, caplog):
    config = ExperimentConfig(CONFIG.data, CONFIG.network, TrainingConfig(steps_per_epoch=4)).resolve()
    run = begin(folder.parent / "new", config)
    run.claim(resume=True)
    run.metrics.write_text('{"step": 0, "run": "x"}\n{"step": 4, "loss": 1.0}\n{"st')
    # A kill while the first checkpoint is written.
    (run.checkpoints / "best.npz").write_bytes(b"")
    run.check_is_at_its_beginning()
    assert "training begins at step 0" in caplog.text
    for path, text in ((run.metrics, '{"step": 5}\n'), (run.folder / "evaluation.json", "")):
        run.metrics.unlink(missing_ok=True)
        path.write_text(text)
        with pytest.raises(InputError, match="`workdir` must hold a checkpoint of its run.*are gone.*--overwrite"):
            run.check_is_at_its_beginning()


def test_what_a_kill_left_while_a_run_was_begun_or_removed_is_begun_anew(folder):
    (folder / "config.json").unlink()
    (folder / "metrics.jsonl").write_text("x")
    assert not begin(folder, resume=True).is_resumed
    assert not (folder / "metrics.jsonl").exists() and Run.open(folder).config == CONFIG


def test_nothing_is_removed_from_a_run_in_use_or_on_a_full_disk(folder, small_disk, monkeypatch):
    first = Run(folder, CONFIG)
    first.claim(resume=True)
    with first.begin(CLASSES, 0):
        before = content(folder)
        # Before anything is decoded or computed.
        for claim in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(InputError, match="`workdir` must not be in use by another process"):
                Run(folder, CONFIG).claim(**claim)
    with pytest.raises(InputError, match="`workdir` must have 16 MiB free.* with 1 MiB"):
        begin(small_disk / "run")
    usage = shutil.disk_usage(folder)._replace(free=20 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="`workdir` must have 26 MiB free.* with 20 MiB"):
        begin(folder, OTHER, overwrite=True, needed_bytes=10 * 2**20)
    assert content(folder) == before and os.listdir(small_disk) == []


def test_a_folder_of_another_kind_is_not_made_a_run(folder, tmp_path):
    for other in (folder / "checkpoints", tmp_path / "records"):
        other.mkdir(exist_ok=True)
        mark_folder(other, other.name)
        before = content(tmp_path)
        with pytest.raises(InputError, match="`workdir` must be a new folder.*the mark of something else"):
            begin(other, overwrite=True)
        assert content(tmp_path) == before


@pytest.mark.parametrize("resume", [False, True])
def test_what_another_process_wrote_since_the_claim_is_left(folder, tmp_path, resume):
    place = folder if resume else tmp_path / "new"
    late = Run(place, CONFIG)
    late.claim(resume=resume)
    begin(place, resume=resume)
    Run(place, CONFIG).write_result({})
    before = content(tmp_path)
    refused = pytest.raises(InputError, match="`workdir` must not be in use by another process.*written meanwhile")
    with refused, late.begin(CLASSES, 0):
        pass
    assert content(tmp_path) == before


def test_a_kill_before_the_folders_inside_are_marked_is_no_harm(folder):
    (folder / "checkpoints" / "jtln_tf.json").unlink()
    (folder / "checkpoints" / "mine.unfinished").write_text("mine")
    with pytest.raises(InputError, match="`workdir` must be a new folder"):
        begin(folder, resume=True)
    (folder / "checkpoints" / "mine.unfinished").unlink()
    assert begin(folder, resume=True).is_resumed and begin(folder, OTHER, overwrite=True)


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300])
def test_a_folder_that_cannot_be_made(tmp_path, name):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="`workdir` must be a folder that can be written"):
        begin(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


def test_classes_that_changed_are_named(folder):
    run = Run.open(folder)
    run.check_classes(CLASSES)
    with pytest.raises(InputError, match="The target classes must be those of the run.*'1', '2'"):
        run.check_classes({**CLASSES, "target": ["0", "2"]})
    with pytest.raises(InputError, match="The source classes must be those of the run.*only the order differs"):
        run.check_classes({**CLASSES, "source": ["1", "0"]})
