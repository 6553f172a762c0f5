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

from jtln_tf.tools.launch import worker_environments
from jtln_tf.trainer.checkpoints import read_state

DATA = [
    "--source=builtin:optdigits?classes=0,1,2,3,4&per_class=8",
    "--target=builtin:optdigits?classes=5,6,7,8,9&per_class=4&validation_fraction=0.3",
    *("--channels=1", "--backbone=small_cnn", "--source_batch=16", "--target_batch=8", "--log_steps=5"),
]
# One stage with both domains in a batch, and two stages with one each.
METHODS = ("jtln", "l2_sp")
# Sums over images in another order; of weights that AdamW moves by up to 1e-3 a step, and losses of about 2.
WEIGHTS, LOSSES = 2e-5, 2e-5


@pytest.fixture
def start(repository):
    """Starts a program of ours; what still runs at the end is killed."""
    processes = []

    def begin(*command, environment=os.environ):
        environment = {**environment, "TF_CPP_MIN_LOG_LEVEL": "3"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        command = [sys.executable, "-m", *map(str, command)]
        # In a session of its own, so that a signal meant for it reaches no other process.
        processes.append(subprocess.Popen(command, cwd=repository, env=environment, start_new_session=True, **pipes))
        return processes[-1]

    yield begin
    for one in processes:
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)
            one.communicate()


def finish(process, status=0):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == status, output
    return output


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
def test_devices_and_workers_share_batches_without_changing_a_number(start, tmp_path):
    layouts = {"one": (0, METHODS), "two": (2, METHODS), "four": (4, METHODS[:1])}
    processes = {
        name: start("tests.experiment.several_methods", tmp_path / name, count, *methods)
        for name, (count, methods) in layouts.items()
    }
    told = {name: finish(process) for name, process in processes.items()}
    processes = [
        start("tests.experiment.several_methods", tmp_path / "workers", 0, *METHODS, environment=environment)
        for environment in worker_environments(2)
    ]
    told["workers"] = "".join(map(finish, processes))
    for name, words in (("two", "on 2 replicas: CPU:0, CPU:1"), ("four", "on 4 replicas"), ("workers", "in 2 workers")):
        assert words in told[name], told[name]
    for method in METHODS:
        one = read(tmp_path / "one" / method)
        for layout in ("two", "workers", *(["four"] if method in layouts["four"][1] else [])):
            assert_same(one, read(tmp_path / layout / method))


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


def count_steps(workdir):
    """Returns the step of the last checkpoint of a run, 0 before the first."""
    state = read_state(workdir / "checkpoints")
    return state.step if state else 0


@pytest.mark.slow
def test_a_killed_worker_ends_the_others_and_a_restart_resumes(start, tmp_path):
    workdir, steps = tmp_path / "run", 300
    command = ["jtln_tf", "launch", "--workers=2", "--", "train", "--method=joint", *DATA, f"--workdir={workdir}"]
    command += [f"--steps={steps}", "--steps_per_epoch=5", "--early_stopping_epochs=0", "--noexport"]
    reached = 0
    # The chief, then the other one: the second run goes on where the first one ended.
    for victim in (0, 1):
        launcher = start(*command, *(["--resume"] if reached else []))
        while (reached_now := count_steps(workdir)) <= reached:
            assert launcher.poll() is None, launcher.stdout.read()
            time.sleep(0.1)
        workers = worker_processes(launcher.pid)
        os.kill(workers[victim], signal.SIGKILL)
        killed = time.monotonic()
        told = finish(launcher, status=2)
        assert time.monotonic() - killed < 60
        lines = [line for line in told.splitlines() if line.startswith("error: ")]
        assert f"worker {victim} was ended by SIGKILL" in lines[-1] and "--resume" in lines[-1]
        assert not any(pathlib.Path(f"/proc/{worker}").exists() for worker in workers)
        reached = count_steps(workdir)
        assert 0 < reached_now <= reached < steps
    told = finish(start(*command, "--resume"))
    assert told.count("target accuracy") == 1 and "2 replicas in 2 workers" in told
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    logged = [entry["step"] for entry in entries if "loss" in entry]
    assert json.loads((workdir / "result.json").read_text())["steps"] == steps
    assert logged == sorted(set(logged)) and logged[-1] == steps
