"""One run on several devices and in several processes: the numbers of one device, whatever dies."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

SIZES = ["--source_batch=16", "--target_batch=8", "--steps=8", "--steps_per_epoch=4", "--log_steps=2"]
DATA = ["--source=builtin:mnist5k?per_class=6", "--target=builtin:optdigits?per_class=4&validation_fraction=0.3"]
NETWORK = ["--channels=1", "--backbone=small_cnn", "--noexport"]
# Both draw for the whole batch.
DRAWS = ["--source_augmentation=crop,rotate,mixup:0.4", "--target_augmentation=randaugment", "--head_dropout=0.3"]
# All that a method can ask of several replicas: costs found online, both heads moved, gradients clipped.
ONLINE = [
    *("--method=jtln", "--cost_matrix=online", "--cost_refresh_steps=2", "--clip_norm=0.5", "--transport_gate=none"),
    # At the default threshold an image may stop anywhere within it, by the rounding of its logits.
    *("--transport_gradient=both", "--transport_images=both", "--sinkhorn_threshold=1e-6"),
]
# Sums over images in another order; of weights that AdamW moves by up to 1e-3 a step, and losses of about 2.
WEIGHTS, LOSSES = 2e-5, 2e-5


def start(repository, arguments, *, workers=1):
    launcher = ["launch", f"--workers={workers}", "--", "train"] if workers > 1 else ["train"]
    command = [sys.executable, "-m", "jtln_tf", *launcher, *DATA, *NETWORK, *SIZES, *map(str, arguments)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    # In a session of its own, so that a signal meant for it reaches no other process.
    return subprocess.Popen(
        command,
        cwd=repository,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process, status=0):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == status, errors
    return output + errors


def read(workdir):
    """Returns the arrays of the last checkpoint and the logged numbers of a run, without its times."""
    with np.load(next((workdir / "checkpoints").glob("last*.npz"))) as file:
        arrays = {name: file[name] for name in file.files if not name.startswith("state/")}
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    numbers = {
        (entry["step"], name): value
        for entry in entries
        for name, value in entry.items()
        if not name.endswith(("seconds", "per_second")) and not isinstance(value, str)
    }
    return arrays, numbers, json.loads((workdir / "result.json").read_text())


def assert_same(ours, theirs):
    assert ours[0].keys() == theirs[0].keys() and ours[1].keys() == theirs[1].keys()
    for name, values in ours[0].items():
        np.testing.assert_allclose(theirs[0][name], values, rtol=1e-3, atol=WEIGHTS, err_msg=name)
    for name, value in ours[1].items():
        # An image near the threshold may be solved an iteration later.
        size = 0.5 if name[1] == "sinkhorn_iterations" else LOSSES
        assert theirs[1][name] == pytest.approx(value, rel=LOSSES, abs=size), name
    assert ours[2]["target_test_images"] == theirs[2]["target_test_images"]
    assert ours[2]["target_accuracy"] == theirs[2]["target_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("method", [ONLINE, ["--method=l2_sp"], ["--method=consecutive"], ["--method=target_only"]])
def test_devices_and_workers_share_batches_without_changing_a_number(repository, tmp_path, method):
    options = [*DRAWS, *method]
    finish(start(repository, [*options, f"--workdir={tmp_path / 'one'}"]))
    one = read(tmp_path / "one")
    for count in (2, 4) if method is ONLINE else (2,):
        told = finish(start(repository, [*options, f"--logical_cpus={count}", f"--workdir={tmp_path / str(count)}"]))
        assert f"training on {count} replicas: CPU:0, CPU:1" in told
        assert_same(one, read(tmp_path / str(count)))
    told = finish(start(repository, [*options, f"--workdir={tmp_path / 'workers'}"], workers=2))
    assert "2 workers" in told and told.count("target accuracy") == 1
    assert_same(one, read(tmp_path / "workers"))


def worker_processes(parent):
    """Returns the ids of the processes that a launcher started, the chief first."""
    children = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    found = {}
    for child in map(int, children):
        environment = pathlib.Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        config = next((one for one in environment if one.startswith(b"TF_CONFIG=")), None)
        if config:
            found[json.loads(config.partition(b"=")[2])["task"]["index"]] = child
    return [found[index] for index in sorted(found)]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_others_and_a_restart_resumes(repository, tmp_path, victim):
    options = ["--method=joint", "--steps=4000", "--steps_per_epoch=5", "--early_stopping_epochs=0"]
    launcher = start(repository, [*options, f"--workdir={tmp_path / 'run'}"], workers=2)
    workers = []
    while not list((tmp_path / "run").glob("checkpoints/last*.npz")):
        assert launcher.poll() is None, launcher.stderr.read()
        time.sleep(0.1)
    workers = worker_processes(launcher.pid)
    os.kill(workers[victim], signal.SIGKILL)
    killed = time.monotonic()
    errors = finish(launcher, status=2)
    assert time.monotonic() - killed < 60
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert f"worker {victim} was ended by SIGKILL" in lines[-1] and "--resume" in lines[-1]
    assert not any(pathlib.Path(f"/proc/{worker}").exists() for worker in workers)
    # Fewer steps would be another configuration, so the rest is trained for a while only.
    resumed = start(repository, [*options, "--resume", f"--workdir={tmp_path / 'run'}"], workers=2)
    log = tmp_path / "run" / "metrics.jsonl"
    reached = [json.loads(line)["step"] for line in log.read_text().splitlines()][-1]
    while [json.loads(line)["step"] for line in log.read_text().splitlines()][-1] <= reached + 10:
        assert resumed.poll() is None, resumed.stderr.read()
        time.sleep(0.2)
    assert json.loads(log.read_text().splitlines()[0])["step"] <= 5
    resumed.send_signal(signal.SIGTERM)
    resumed.communicate(timeout=60)
