"""The command line as a user meets it: real processes, exit statuses, one line on stderr."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

PROGRAMS = ("train", "evaluate", "export", "predict", "compare")


def run(repository, program, *arguments, timeout=120):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-m", f"tools.{program}", *map(str, arguments)],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def assert_refused(result, *words):
    assert result.returncode == 2, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in errors[0]


@pytest.fixture
def tiny(bars):
    """Flags of a run that takes seconds."""
    return [
        "--source=folder:source",
        "--target=folder:target?per_class=3&test_fraction=0.5",
        f"--data_root={bars}",
        "--image_size=16",
        "--channels=1",
        "--norandom_flip",
        "--source_batch=8",
        "--target_batch=4",
        "--steps=6",
        "--steps_per_epoch=3",
        "--log_steps=1",
        "--cost_refresh_steps=3",
        "--transport_start_step=2",
    ]


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_names_the_flags_without_loading_tensorflow(repository, program):
    code = (
        f"import sys; sys.argv = ['tools.{program}', '--help']\n"
        "import runpy\n"
        "try:\n"
        f"    runpy.run_module('tools.{program}', run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    print('exit', stop.code, 'tensorflow' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=60)
    assert result.stdout.endswith("exit 0 False\n"), result.stderr
    assert f"python -m tools.{program}" in result.stdout
    assert "--" in result.stdout.split("python -m", 1)[1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--transport_gradient=sideways"], ["transport_gradient", "sideways", "source", "target", "both"]),
        (["--epsilon=0"], ["epsilon", "greater than 0"]),
        (["--steps=many"], ["steps", "many"]),
        (["--steps=0"], ["steps", "0"]),
        (["--no_such_flag=1"], ["no_such_flag"]),
        (["--preset=nothing"], ["preset", "digits", "grocery", "nothing"]),
        (["--source=builtin:mnist5k"], ["target"]),
        (["--source=mnist5k"], ["builtin:NAME", "mnist5k"]),
        (["--preset=digits"], ["workdir"]),
        (["--preset=digits", "stray"], ["stray"]),
        (["--preset=digits", "--labels_per_class=5", "--workdir=unused"], ["labels_per_class"]),
        (["--preset=digits", "--resume", "--overwrite", "--workdir=unused"], ["resume", "overwrite"]),
        (["--cost_matrix=nonsense"], ["cost_matrix", "mkmmd", "uniform", "nonsense"]),
        (["--flagfile=no/such.flags"], ["no/such.flags"]),
        (["--preset", "digits"], ["--preset=NAME"]),
        (["--workdir=no/such", "--resume"], ["workdir", "no/such"]),
    ],
)
def test_bad_flags_are_refused_before_tensorflow_is_loaded(repository, flags, words):
    started = time.perf_counter()
    result = run(repository, "train", *flags)
    seconds = time.perf_counter() - started
    assert_refused(result, *words)
    # Loading TensorFlow alone takes several times this long.
    assert seconds < 2
    assert not (repository / "unused").exists()


@pytest.mark.parametrize(
    ("program", "flags", "words"),
    [
        ("compare", ["--preset=digits"], ["output"]),
        ("compare", ["--preset=digits", "--output=unused", "--methods=jtln,magic"], ["methods", "magic"]),
        ("compare", ["--preset=digits", "--output=unused", "--method=joint"], ["methods", "--method=joint"]),
        ("evaluate", [], ["workdir"]),
        ("evaluate", ["--workdir=no/such"], ["workdir", "no/such"]),
        ("export", ["--workdir=no/such", "--output=unused"], ["workdir", "no/such"]),
        ("predict", ["--model=no/such"], ["images"]),
        ("predict", ["no_such.png"], ["model"]),
        ("predict", ["--model=unused", "no_such.png"], ["images", "no_such.png"]),
    ],
)
def test_bad_arguments_of_other_programs_are_refused(repository, program, flags, words):
    assert_refused(run(repository, program, *flags), *words)
    assert not (repository / "unused").exists()


def make_bad_backbone(folder):
    (folder / "bad.keras").write_text("not a model")
    return f"--backbone={folder / 'bad.keras'}"


def make_cost_matrix(folder, text):
    (folder / "cost.csv").write_text(text)
    return f"--cost_matrix={folder / 'cost.csv'}"


GOOD_COSTS = "c,t0,t1,t2\ns0,0,1,1\ns1,1,0,1\ns2,1,1,0\ns3,1,1,1\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make_flag", "words"),
    [
        (lambda folder: "--target=folder:nowhere", ["folder", "nowhere"]),
        (lambda folder: "--target=folder:target?per_class=99", ["per_class", "99", "t0"]),
        (lambda folder: "--target=folder:target?classes=t9", ["classes", "t9"]),
        (lambda folder: "--target=builtin:nothing", ["builtin", "nothing", "mnist5k"]),
        (lambda folder: "--backbone=no_such_network", ["backbone", "no_such_network"]),
        (make_bad_backbone, ["backbone", "bad.keras"]),
        (lambda folder: f"--weights={folder / 'none.weights.h5'}", ["weights", "none.weights.h5"]),
        (lambda folder: "--freeze_until=no_such_layer", ["freeze_until", "no_such_layer"]),
        (lambda folder: make_cost_matrix(folder, GOOD_COSTS.replace("s3,1", "s3,nan")), ["cost_matrix", "nan", "s3"]),
        (lambda folder: make_cost_matrix(folder, GOOD_COSTS.replace("s3,1", "s3,-1")), ["cost_matrix", "-1", "s3"]),
        (lambda folder: make_cost_matrix(folder, GOOD_COSTS.replace("s3", "s7")), ["cost_matrix", "s3", "s7"]),
        (lambda folder: make_cost_matrix(folder, GOOD_COSTS.replace("s3,1,1,1\n", "")), ["cost_matrix", "s3"]),
        (lambda folder: f"--cost_matrix={folder / 'missing.npz'}", ["cost_matrix", "missing.npz"]),
    ],
)
def test_input_that_does_not_fit_the_data_leaves_no_run(repository, tmp_path, tiny, make_flag, words):
    flags = [flag for flag in tiny if not flag.startswith("--cost_refresh")]
    result = run(repository, "train", *flags, make_flag(tmp_path), f"--workdir={tmp_path / 'run'}")
    assert_refused(result, *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_workdir_in_the_place_of_a_file_is_refused(repository, tmp_path, tiny):
    (tmp_path / "file").write_text("mine")
    assert_refused(run(repository, "train", *tiny, f"--workdir={tmp_path / 'file'}"), "workdir")
    assert_refused(run(repository, "train", *tiny, f"--workdir={tmp_path / 'file' / 'below'}"), "workdir")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_train_evaluate_export_predict(repository, tmp_path, tiny, bars):
    workdir = tmp_path / "run"
    trained = run(repository, "train", *tiny, f"--workdir={workdir}", "--json")
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout.splitlines()[-1])
    assert result == json.loads((workdir / "result.json").read_text())
    assert {"target_accuracy", "target_macro_accuracy", "source_accuracy", "steps", "train_seconds", "seed"} <= set(
        result
    )
    assert result["steps"] == 6
    assert result["export_difference"] < 1e-4
    for name in ("config.json", "cost_matrix.npz", "checkpoints", "tensorboard", "metrics.jsonl", "export"):
        assert (workdir / name).exists(), name
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries if "loss" in entry] == [1, 2, 3, 4, 5, 6]
    logged = {"loss", "target_loss", "source_loss", "transport_loss", "head_learning_rate", "target_passes"}
    assert logged <= set(entries[-2])

    again = run(repository, "train", *tiny, f"--workdir={workdir}")
    assert_refused(again, "workdir", "--resume", "--overwrite")
    other = run(repository, "train", *tiny, f"--workdir={workdir}", "--resume", "--epsilon=0.5")
    assert_refused(other, "workdir", "epsilon: 0.05 -> 0.5")

    resumed = run(repository, "train", f"--workdir={workdir}", "--resume", "--json")
    assert json.loads(resumed.stdout.splitlines()[-1]) == result

    evaluated = run(repository, "evaluate", f"--workdir={workdir}", "--json")
    table = json.loads(evaluated.stdout)
    assert table["accuracy"] == pytest.approx(result["target_accuracy"])
    assert np.sum(table["confusion"]) == table["images"] == 3 * 6

    exported = run(repository, "export", f"--workdir={workdir}", f"--output={tmp_path / 'out'}")
    assert exported.returncode == 0, exported.stderr
    images = sorted((bars / "target" / "t1").glob("*.png"))[:2]
    predicted = run(repository, "predict", f"--model={tmp_path / 'out'}", *images)
    lines = [json.loads(line) for line in predicted.stdout.splitlines()]
    assert [line["image"] for line in lines] == [str(image) for image in images]
    for line in lines:
        assert sum(row["probability"] for row in line["classes"]) == pytest.approx(1, abs=1e-4)
        assert {row["class"] for row in line["classes"]} == {"t0", "t1", "t2"}

    (tmp_path / "broken.png").write_bytes(images[0].read_bytes()[:60])
    assert_refused(run(repository, "predict", f"--model={tmp_path / 'out'}", tmp_path / "broken.png"), "broken.png")


@pytest.mark.slow
def test_one_bad_image_is_named_and_skipped_only_when_asked(repository, tmp_path, tiny):
    from tests.conftest import make_image_folder

    make_image_folder(tmp_path / "data" / "source", ["s0", "s1"], 8)
    make_image_folder(tmp_path / "data" / "target", ["t0", "t1"], 8, seed=1)
    good = tmp_path / "data" / "source" / "s1" / "000.png"
    (tmp_path / "data" / "source" / "s1" / "bad.png").write_bytes(good.read_bytes()[:100])
    flags = [*tiny, f"--data_root={tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}", "--noexport"]
    assert_refused(run(repository, "train", *flags), "bad.png", "--skip_bad_images")
    assert not (tmp_path / "run").exists()
    result = run(repository, "train", *flags, "--skip_bad_images", "--json")
    assert json.loads(result.stdout.splitlines()[-1])["bad_images_left_out"] == 1


@pytest.mark.slow
def test_a_disk_that_is_full_is_said_in_one_line(repository, tiny, small_disk):
    assert_refused(run(repository, "train", *tiny, f"--workdir={small_disk / 'run'}"), "workdir", "MiB free")
    assert list(small_disk.iterdir()) == []


@pytest.mark.slow
def test_compare_writes_its_tables_and_goes_on_where_it_was_stopped(repository, tmp_path, tiny):
    flags = [*tiny, "--seeds=2", f"--output={tmp_path / 'cmp'}", "--methods=target_only,jtln"]
    first = run(repository, "compare", *flags)
    assert first.returncode == 0, first.stderr
    table = json.loads((tmp_path / "cmp" / "table.json").read_text())
    assert [row["method"] for row in table["rows"]] == ["target_only", "jtln"]
    assert [row["seeds"] for row in table["rows"]] == [[0, 1], [0, 1]]
    assert "| JTLN |" in (tmp_path / "cmp" / "table.md").read_text()
    with Image.open(tmp_path / "cmp" / "accuracy.png") as plot:
        assert plot.width > 500
    before = (tmp_path / "cmp" / "jtln" / "seed0" / "result.json").stat().st_mtime_ns
    assert run(repository, "compare", *flags).returncode == 0
    assert (tmp_path / "cmp" / "jtln" / "seed0" / "result.json").stat().st_mtime_ns == before
    assert_refused(run(repository, "compare", *flags, "--epsilon=0.5"), "workdir", "epsilon")
