import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import plain_sinkhorn, problems, report
from jtln_tf.methods.jtln.method import Jtln
from tests import reference

CUT = ["--preset=digits", "--freeze_until=pool1"]


def run(repository, module, *arguments):
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True)


def test_problems_are_those_of_the_size():
    a, b, cost = problems.make_problem(3, 7, 4)
    assert (a.shape, b.shape, cost.shape) == ((3, 7), (3, 4), (7, 4))
    np.testing.assert_allclose([a.sum(1), b.sum(1)], 1, rtol=1e-6)
    assert cost.min() == 0 and cost.max() == 1


def test_marginal_error_is_zero_for_the_solution_and_adds_both_sides():
    a, b, cost = problems.make_problem(3, 7, 4)
    a, b = (np.float64(x) / np.float64(x).sum(1, keepdims=True) for x in (a, b))
    solutions = [reference.sinkhorn(np.log(x), np.log(y), cost, 0.1) for x, y in zip(a, b, strict=True)]
    f, g = ([getattr(solution, side) for solution in solutions] for side in "fg")
    assert problems.marginal_error(a, b, cost, 0.1, f, g) < 1e-10
    # A factor of 2 in one of the plans doubles both its marginals.
    f[1] = f[1] + 0.1 * np.log(2)
    np.testing.assert_allclose(problems.marginal_error(a, b, cost, 0.1, f, g), 2, rtol=1e-6)


def row(name, milliseconds, error=1e-5, **others):
    return {
        "solver": name,
        "size": [2, 3, 4],
        "epsilon": 0.1,
        "milliseconds": milliseconds,
        "marginal_error": error,
    } | others


OURS = row(
    "jtln_tf", 2.0, iterations_mean=4.0, iterations_most=9, milliseconds_iteration=3.0, milliseconds_products=2.0
)


def test_the_best_peer_is_the_fastest_that_reached_the_tolerance():
    rows = [OURS, row("ott (kernel)", 10.0, error=np.inf), row("pot (kernel)", 40.0), row("ott (log domain)", 20.0)]
    assert report.fastest_peer(rows, OURS)["solver"] == "ott (log domain)"
    table = report.format_table(rows)
    assert "| 2, 3, 4 | 0.1 | 2.00 | 20.00 | 10.00 (error inf) | 40.00 | 10 | 4.0 (9) | 1.50 |" in table
    # A peer that was given up says why.
    rows = [OURS, {"solver": "pot (kernel)", "size": [2, 3, 4], "epsilon": 0.1, "failed": "over 60 s"}]
    assert "| 2.00 | over 60 s | - |" in report.format_table(rows)


def test_plain_updates_are_counted_until_the_reference_is_reached():
    a_logits, b_logits = np.random.default_rng(0).normal(size=(2, 3, 4))
    _, _, cost = problems.make_problem(1, 4, 4)
    few, many = (
        plain_sinkhorn.count_plain_updates(a_logits, b_logits, cost, Jtln(epsilon=0.1, sinkhorn_threshold=t))
        for t in (1e-1, 1e-8)
    )
    assert np.all(few >= 1) and np.all(few <= many) and few.sum() < many.sum()
    stopped = Jtln(epsilon=0.1, sinkhorn_threshold=1e-8, sinkhorn_max_iterations=2)
    np.testing.assert_array_equal(plain_sinkhorn.count_plain_updates(a_logits, b_logits, cost, stopped), 2)


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("solver", ["--solvers=jtln_tf,scipy"], "`solvers` must be of"),
        ("training_step", ["--preset=digits", "--method=joint"], "`method` must have a transport loss"),
        ("augmentation", ["--policy=crop,blur"], "must be none, or some of crop"),
        ("cached_trunk", [*CUT, "--method=consecutive"], "`method` must train on both domains at once"),
    ],
)
def test_bad_flags_are_told_in_one_line(repository, module, arguments, message):
    done = run(repository, module, *arguments)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_solver_benchmark_writes_its_files(repository, tmp_path):
    files = [f"--json={tmp_path / 'solver.json'}", f"--plot={tmp_path / 'solver.png'}"]
    # On a loaded machine the first solve, which compiles, may take long.
    done = run(repository, "solver", "--sizes=1", "--solvers=jtln_tf", "--limit_seconds=3000", *files)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "solver.json").read_text())
    assert [row["epsilon"] for row in results["rows"]] == list(problems.EPSILONS)
    for figures in results["rows"]:
        assert (
            figures["ours_ms"] > 0
            and figures["speedup"] is None
            and figures["marginal_error"] <= 2 * problems.TOLERANCE
        )
    assert "| 128, 10, 10 | 0.1 |" in done.stdout and (tmp_path / "solver.png").stat().st_size > 10_000


@pytest.mark.slow
def test_training_step_tells_share_and_iterations(repository, tmp_path):
    options = ["--transport_start_step=5", "--warm_steps=5", "--rounds=2", "--block_steps=2", "--replayed_steps=2"]
    done = run(repository, "training_step", "--preset=digits", *options, f"--json={tmp_path / 'step.json'}")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "step.json").read_text())
    assert figures["transport_share_of_step"] < 1 and figures["seconds_with"] > 0
    assert all(counts["slowest"] >= counts["mean"] >= 1 for counts in figures["iterations"].values())


@pytest.mark.slow
def test_augmentation_compares_policies_with_crop_and_flip(repository, tmp_path):
    options = ["--policy=none", "--policy=erase,mixup", "--image_size=16", "--channels=1", "--rounds=1"]
    done = run(repository, "augmentation", *options, "--seconds=0.1", f"--json={tmp_path / 'augmentation.json'}")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "augmentation.json").read_text())["rows"]
    assert [row["policy"] for row in rows] == ["crop,flip", "none", "erase,mixup"] and rows[0]["ratio"] == 1
    assert all(row["images_per_second"] > 0 for row in rows) and "| `none` | " in done.stdout


@pytest.mark.slow
def test_cached_trunk_compares_both_ways_of_training(repository, bars, tmp_path):
    domains = ["--source=folder:source", "--target=folder:target?per_class=3&test_fraction=0.5", f"--data_root={bars}"]
    sizes = ["--backbone=small_cnn", "--image_size=16", "--channels=1", "--source_batch=8", "--target_batch=6"]
    blocks = [
        "--steps=20",
        "--warm_steps=2",
        "--rounds=2",
        "--block_steps=2",
        "--cached_steps=3",
        "--freeze_until=pool2",
    ]
    done = run(repository, "cached_trunk", *domains, *sizes, *blocks, f"--json={tmp_path / 'trunk.json'}")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "trunk.json").read_text())
    assert figures["images_per_second"] > 0 and figures["cached_images_per_second"] > 0
    assert 0 <= figures["data_wait_share"] <= figures["data_wait_most"] <= 1
    assert figures["images"] > 50 and figures["first_run_in_passes"] > 0 and figures["second_run_in_passes"] > 0


@pytest.mark.slow
def test_input_pipeline_reads_the_files_of_a_folder(repository, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(10):
            pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.jpg")
    options = ["--domain=folder:images", f"--data_root={tmp_path}", "--image_size=16", "--rounds=1"]
    done = run(repository, "input_pipeline", *options, "--batch=4", f"--json={tmp_path / 'input.json'}")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "input.json").read_text())
    assert len(figures["rates"]) == 5 and all(rate > 0 for rate in figures["rates"].values())
