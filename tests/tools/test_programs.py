"""The command line as a user meets it: real processes, exit statuses, one line on stderr."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from jtln_tf.config import DataConfig, ExperimentConfig
from jtln_tf.costs import load_cost_matrix

CROP = ["--source_augmentation=crop", "--target_augmentation=crop"]
PROGRAMS = (
    "train",
    "evaluate",
    "export",
    "predict",
    "compare",
    "build_cost_matrix",
    "describe_data",
    "import_alexnet_weights",
    "prepare_data",
)


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
        *CROP,
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
        (["--source=mnist5k"], ["KIND:NAME", "builtin", "folder", "mnist5k"]),
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


COMPARE = ["--source=builtin:mnist5k", "--target=builtin:optdigits", "--output=unused"]
DIGITS = COMPARE[:2]
DOMAIN = "--domain=builtin:optdigits"


@pytest.mark.parametrize(
    ("program", "flags", "words"),
    [
        ("compare", ["--preset=digits"], ["output"]),
        ("compare", ["--preset=digits", "--output=unused", "--methods=jtln,magic"], ["methods", "magic"]),
        ("compare", ["--preset=digits", "--output=unused", "--method=joint"], ["methods", "--method=joint"]),
        ("compare", [*COMPARE, "--cost_matrices=mkmmd,textt"], ["cost_matrix", "textt"]),
        ("compare", [*COMPARE, "--cost_matrices=mkmmd", "--methods=joint"], ["cost_matrices", "jtln"]),
        ("build_cost_matrix", ["--preset=digits", "--metric=mkmmd"], ["output", ".npz"]),
        ("build_cost_matrix", [*DIGITS, "--output=unused.npy"], ["output", ".npz", "unused.npy"]),
        ("build_cost_matrix", [*DIGITS, "--output=unused.npz"], ["metric", "mkmmd", "''"]),
        ("build_cost_matrix", [*DIGITS, "--output=unused.npz", "--metric=mkmd"], ["metric", "mkmd"]),
        ("build_cost_matrix", [*DIGITS, "--output=unused.npz", "--metric=online"], ["metric", "online"]),
        ("build_cost_matrix", [*DIGITS, "--output=unused.npz", "--metric=text", "--plot=a.jpg"], ["plot", "a.jpg"]),
        ("build_cost_matrix", [*DIGITS, "--output=unused.npz", "--metric=taxonomy"], ["cost_taxonomy", "nothing"]),
        ("build_cost_matrix", ["--metric=text", "--output=unused.npz"], ["source"]),
        ("build_cost_matrix", [*DIGITS, "--output=unused.npz", "--metric=text", "--workdir=no/such"], ["workdir"]),
        ("describe_data", [], ["domain"]),
        ("describe_data", ["--domain=photos"], ["KIND:NAME", "photos"]),
        ("describe_data", [DOMAIN, "--against=photos"], ["KIND:NAME", "photos"]),
        ("describe_data", [DOMAIN, "--output=unused.jpg"], ["output", ".png", "unused.jpg"]),
        ("describe_data", [DOMAIN, "--output=docs/images/digits.png"], ["output", "digits.png", "--overwrite"]),
        ("describe_data", [DOMAIN, "--seed=-1"], ["seed", "-1"]),
        ("evaluate", [], ["workdir"]),
        ("evaluate", ["--workdir=no/such"], ["workdir", "no/such"]),
        ("export", ["--workdir=no/such", "--output=unused"], ["workdir", "no/such"]),
        ("predict", ["--model=no/such"], ["images"]),
        ("predict", ["no_such.png"], ["model"]),
        ("predict", ["--model=unused", "no_such.png"], ["images", "no_such.png"]),
        # A message is not what colours the terminal.
        ("import_alexnet_weights", ["--no\x1b[31m"], ["no\\x1b[31m"]),
    ],
)
def test_bad_arguments_of_other_programs_are_refused(repository, program, flags, words):
    assert_refused(run(repository, program, *flags), *words)
    assert not (repository / "unused").exists()


def test_resuming_with_another_option_is_refused(repository, tmp_path):
    begun = ExperimentConfig(data=DataConfig(source="builtin:mnist5k", target="builtin:optdigits"))
    (tmp_path / "config.json").write_text(begun.to_json())
    result = run(repository, "train", f"--workdir={tmp_path}", "--resume", "--steps=60")
    assert_refused(result, "steps: 500 -> 60")


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


def test_an_error_of_tensorflow_that_is_no_text_is_an_image_that_cannot_be_read(repository, tmp_path):
    """Its message may quote bytes of the file."""
    (tmp_path / "broken.bmp").write_bytes(b"BM\xff\xff")
    code = (
        "import runpy, sys, jtln_tf.export\n"
        "signatures = {'serve_bytes': lambda encoded: encoded[0].numpy().decode('utf-8')}\n"
        "jtln_tf.export.load_export = lambda folder: (signatures, {'target': ['a']})\n"
        f"sys.argv = ['tools.predict', '--model=export', {str(tmp_path / 'broken.bmp')!r}]\n"
        "runpy.run_module('tools.predict', run_name='__main__')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=120)
    assert_refused(result, "`images` must be JPEG, PNG, WebP, GIF or BMP files", "broken.bmp")


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


DESCRIBED = """\
Domain        folder:source?per_class=2
Images        20: train 8, validation 4, test 8
Formats       PNG 95 %, unknown 5 %; gray 100 %
Sizes         16 x 16 (width x height)
Classes       4; training images: 2 of each

class       train  validation        test
s0              2           1           2
s1              2           1           2
s2              2           1           2
s3              2           1           2

Bad files     1 (a run stops at them; --skip_bad_images leaves them out)
  source/s3/009.png (test): Unknown image file format. One of JPEG, JPEG XL, PNG, GIF, BMP, WebP required.

Duplicates    none (images of the same pixels at 224 x 224)

Shared        no images also in folder:target

Picture       """


@pytest.mark.slow
def test_describe_data_prints_and_draws_what_a_run_would_use(repository, tmp_path, bars):
    shutil.copytree(bars, tmp_path / "bars")
    (tmp_path / "bars" / "source" / "s3" / "009.png").write_bytes(b"no image")
    flags = ["--domain=folder:source?per_class=2", f"--data_root={tmp_path / 'bars'}", "--against=folder:target"]
    result = run(repository, "describe_data", *flags, f"--output={tmp_path / 'new' / 'sheet.png'}")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{DESCRIBED}{tmp_path / 'new' / 'sheet.png'}\n"
    with Image.open(tmp_path / "new" / "sheet.png") as image:
        assert image.format == "PNG"


@pytest.mark.slow
def test_describe_data_prints_json_and_nothing_else(repository, tmp_path):
    flags = ["--domain=builtin:optdigits", "--json", f"--output={tmp_path / 'sheet.png'}"]
    result = run(repository, "describe_data", *flags)
    assert json.loads(result.stdout)["num_images"] == 1797 and len(result.stdout.splitlines()) == 1
    assert "image/s" not in result.stderr
    assert (tmp_path / "sheet.png").exists()
    assert_refused(run(repository, "describe_data", "--domain=folder:no/such"), "folder", "no/such")


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


@pytest.mark.slow
def test_compare_trains_once_with_each_cost_matrix(repository, tmp_path, tiny):
    (tmp_path / "cost.csv").write_text(GOOD_COSTS)
    costs = f"online,shuffled:mkmmd,{tmp_path / 'cost.csv'}"
    flags = [*tiny, "--seeds=1", f"--output={tmp_path / 'cmp'}", "--methods=joint,jtln", f"--cost_matrices={costs}"]
    result = run(repository, "compare", *flags)
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "cmp" / "table.json").read_text())["rows"]
    assert [row["cost_matrix"] for row in rows] == [None, *costs.split(",")]
    found = load_cost_matrix(tmp_path / "cmp" / "jtln-online" / "seed0" / "cost_matrix.npz")
    assert found.metric == "online" and found.values.shape == (4, 3)
    metrics = (tmp_path / "cmp" / "jtln-online" / "seed0" / "metrics.jsonl").read_text()
    drifts = [entry for entry in map(json.loads, metrics.splitlines()) if "cost_drift" in entry]
    # Estimated at steps 2 and 5; the first replaces nothing.
    assert [entry["step"] for entry in drifts] == [5]
    assert 0 <= drifts[0]["cost_nearest_changed"] <= 1 and 0 < drifts[0]["cost_drift"] < 1


def build_flags(bars, folder, *more):
    flags = ["--source=folder:source", "--target=folder:target?per_class=3", f"--data_root={bars}", "--image_size=16"]
    return [*flags, *CROP, "--channels=1", f"--output={folder / 'cost.npz'}", *more]


@pytest.mark.slow
def test_a_cost_matrix_is_built_seen_and_used(repository, tmp_path, tiny, bars):
    flags = build_flags(bars, tmp_path, "--metric=0.8*mkmmd+0.2*text", f"--plot={tmp_path / 'cost.png'}")
    result = run(repository, "build_cost_matrix", *flags)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith((tmp_path / "cost.nearest.md").read_text())
    with Image.open(tmp_path / "cost.png") as picture:
        assert min(picture.size) > 200
    matrix = load_cost_matrix(tmp_path / "cost.npz")
    assert matrix.values.shape == (4, 3) and matrix.metric == "0.8*mkmmd+0.2*text"
    assert matrix.backbone == "small_cnn" and matrix.data["target"]["images"] == 9
    assert list((tmp_path / "features").iterdir())

    before = (tmp_path / "cost.npz").read_bytes()
    assert_refused(run(repository, "build_cost_matrix", *flags), "output", "cost.npz", "--overwrite")
    assert (tmp_path / "cost.npz").read_bytes() == before
    again = run(repository, "build_cost_matrix", *flags, "--overwrite", "--json")
    assert json.loads(again.stdout) == matrix.nearest()

    fixed = [flag for flag in tiny if not flag.startswith(("--cost_refresh", "--target"))]
    # The draw of the labels is that of the matrix.
    fixed += ["--target=folder:target?per_class=3", f"--cost_matrix={tmp_path / 'cost.npz'}"]
    used = run(repository, "train", *fixed, f"--workdir={tmp_path / 'run'}", "--noexport")
    assert used.returncode == 0, used.stderr
    np.testing.assert_array_equal(load_cost_matrix(tmp_path / "run" / "cost_matrix.npz").values, matrix.values)
    assert_refused(
        run(repository, "train", *fixed, "--seed=1", f"--workdir={tmp_path / 'other'}"),
        "cost_matrix",
        "target training",
    )
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_cost_matrix_through_the_network_of_a_run(repository, tmp_path, tiny, bars):
    assert run(repository, "train", *tiny, f"--workdir={tmp_path / 'run'}", "--noexport").returncode == 0
    flags = build_flags(bars, tmp_path, "--metric=prediction", f"--workdir={tmp_path / 'run'}", "--feature_cache=none")
    result = run(repository, "build_cost_matrix", *flags)
    assert result.returncode == 0, result.stderr
    assert load_cost_matrix(tmp_path / "cost.npz").parameters["classifier"] == "source_predictions"
    assert not (tmp_path / "features").exists()


@pytest.mark.slow
def test_a_killed_build_goes_on_with_the_features_it_had(repository, tmp_path):
    flags = ["--source=builtin:mnist5k", "--target=builtin:optdigits", "--backbone=MobileNetV2", "--channels=3"]
    flags += ["--image_size=64", "--cost_images_per_class=300", "--metric=mkmmd"]
    flags += ["--source_augmentation=none", "--target_augmentation=none"]
    command = [sys.executable, "-m", "tools.build_cost_matrix", *flags, f"--output={tmp_path / 'cost.npz'}"]
    process = subprocess.Popen(command, cwd=repository, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("features/*.npy"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "cost.npz").exists()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("features/*.npy")}
    assert len(done) >= 2
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    assert (tmp_path / "cost.npz").exists()
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("features/*.npy")}
    # The weights are drawn by the seed: the model is the one of the killed call, and its files were not written again.
    assert len(after) > len(done) and done.items() <= after.items()


@pytest.mark.slow
def test_a_build_on_a_full_disk_leaves_no_matrix(repository, small_disk):
    flags = [*DIGITS, "--image_size=28", "--channels=1", "--metric=mkmmd", "--cost_images_per_class=300"]
    result = run(repository, "build_cost_matrix", *flags, f"--output={small_disk / 'cost.npz'}")
    assert_refused(result, "No space left")
    assert not (small_disk / "cost.npz").exists()


@pytest.mark.parametrize("backbone", ["kerashub:./nowhere", "kerashub:"])
def test_a_preset_that_is_not_there_is_told_before_images_are_read(repository, tiny, tmp_path, backbone):
    result = run(repository, "train", *tiny, f"--backbone={backbone}", f"--workdir={tmp_path / 'run'}")
    assert_refused(result, "`backbone`", backbone)
    assert not (tmp_path / "run").exists()
