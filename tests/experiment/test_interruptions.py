"""Runs that are killed, signalled, or out of room or images: they stop as they must, and go on as if nothing was."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from benchmarks.reliability import compare_results, compare_weights
from jtln_tf.config import RunInterruptedError, RunStoppedError
from jtln_tf.experiment.choices import list_flags
from jtln_tf.experiment.run import run_experiment
from jtln_tf.trainer.callbacks import StepCounter
from jtln_tf.trainer.checkpoints import read_state
from tests.experiment.runs import assert_went_on, make_config, read_losses, run_stopped_at

SECONDS_TO_A_CHECKPOINT = 120
ALL_OF_IT = {"source_augmentation": "crop,flip,zoom,mixup", "target_augmentation": "colour,erase,randaugment,mixup:1"}


def start(repository, *command):
    """Starts a program of one thread, which adds float32 sums in one order."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=repository, env=environment, stderr=subprocess.PIPE, text=True
    )


def wait_for_a_checkpoint(process, workdir):
    deadline = time.monotonic() + SECONDS_TO_A_CHECKPOINT
    while not (workdir / "checkpoints" / "last.npz").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_process_goes_on_as_if_nothing_had_happened(bars, tmp_path, repository):
    options, training = {"transport_start_step": 4}, {"steps": 40}
    config = make_config(bars, "jtln", cost=("online", 4), options=options, data=ALL_OF_IT, training=training)
    # A name that TensorFlow would take for a pattern.
    workdir = tmp_path / "seed[1]"
    process = start(
        repository, "-m", "jtln_tf", "train", *list_flags(config).values(), f"--workdir={workdir}", "--noexport"
    )
    wait_for_a_checkpoint(process, workdir)
    process.kill()
    process.communicate()
    assert not (workdir / "result.json").exists()
    results = [run_experiment(config, tmp_path / name, resume=True, export=False) for name in ("seed[1]", "whole")]
    assert_went_on(workdir, tmp_path / "whole", results)


@pytest.mark.slow
def test_a_kill_right_after_an_early_stop_costs_no_bit(bars, tmp_path, repository):
    config = make_config(bars, training={"steps": 400, "early_stopping_epochs": 1})
    (tmp_path / "config.json").write_text(config.to_json())
    # Training comes back to the best step once it has stopped.
    code = (
        "import os, signal, sys, jtln_tf as jt\n"
        "from jtln_tf.trainer.checkpoints import Checkpoints\n"
        "config = jt.ExperimentConfig.from_json(open(sys.argv[1]).read())\n"
        "jt.run_experiment(config, sys.argv[2], export=False)\n"
        "Checkpoints.restore_best = lambda self: os.kill(os.getpid(), signal.SIGKILL)\n"
        "jt.run_experiment(config, sys.argv[3], export=False)\n"
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(repository, "-c", code, tmp_path / "config.json", whole, killed)
    errors = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, errors
    state, losses = read_state(killed / "checkpoints"), read_losses(killed)
    assert state.stopped and not state.finished and state.best_step < state.step < 400
    assert run_experiment(config, killed, resume=True, export=False)["steps"] == state.step
    assert compare_weights(killed, whole) == [] and compare_results(killed, whole) == []
    assert read_losses(killed) == losses == read_losses(whole)


@pytest.mark.slow
def test_a_run_that_stopped_early_is_not_trained_on_when_it_is_resumed(bars, tmp_path):
    config = make_config(bars, training={"steps": 400, "early_stopping_epochs": 1})
    first = run_experiment(config, tmp_path, export=False)
    assert first["best_step"] < first["steps"] < 400
    (tmp_path / "result.json").unlink()
    again = run_experiment(config, tmp_path, resume=True, export=False)
    assert {**again, "train_seconds": 0} == {**first, "train_seconds": 0}


@pytest.mark.slow
@pytest.mark.parametrize("step", [6, 8])
def test_two_stages_go_on_inside_the_second_and_at_its_beginning(bars, tmp_path, step):
    config = make_config(bars, "l2_sp", data={"target_augmentation": "randaugment:1,mixup"})
    run_stopped_at(config, tmp_path / "stopped", step)
    results = [run_experiment(config, tmp_path / name, resume=True, export=False) for name in ("stopped", "whole")]
    assert_went_on(tmp_path / "stopped", tmp_path / "whole", results)


@pytest.mark.slow
def test_a_signal_saves_the_step_that_it_came_in(bars, tmp_path, monkeypatch):
    config = make_config(bars, "joint", training={"log_steps": 5}, network={"head_dropout": 0.2})
    begin = StepCounter.on_train_batch_begin

    def send(self, batch, logs=None):
        begin(self, batch, logs)
        if self._state.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    former = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError, match="SIGTERM; step 7 is saved") as told:
        patch.setattr(StepCounter, "on_train_batch_begin", send)
        run_experiment(config, tmp_path / "stopped", export=False)
    assert told.value.signal == signal.SIGTERM and signal.getsignal(signal.SIGTERM) == former
    assert read_state(tmp_path / "stopped" / "checkpoints").step == 7
    results = [run_experiment(config, tmp_path / name, resume=True, export=False) for name in ("stopped", "whole")]
    assert_went_on(tmp_path / "stopped", tmp_path / "whole", results)


@pytest.mark.slow
def test_a_disk_that_fills_up_while_training_stops_the_run_with_one_line(bars, tmp_path, small_disk, monkeypatch):
    # Room for the configuration and the logs, not for a checkpoint of small_cnn and its moments (2 MB).
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(RunStoppedError, match=r"A checkpoint must be writable\. Received: .* at step 4 "):
        run_experiment(make_config(bars, "joint"), small_disk / "run")
    assert not (small_disk / "run" / "result.json").exists()


@pytest.mark.slow
def test_a_run_whose_disk_was_full_goes_on_once_there_is_room(bars, tmp_path, small_disk, repository):
    subprocess.run(["mount", "-o", "remount,size=48m", small_disk], check=True)
    training = {"steps": 200, "steps_per_epoch": 10, "log_steps": 10}
    config, workdir = make_config(bars, "joint", training=training), small_disk / "run"
    process = start(
        repository, "-m", "jtln_tf", "train", *list_flags(config).values(), f"--workdir={workdir}", "--noexport"
    )
    wait_for_a_checkpoint(process, workdir)
    with (small_disk / "filler").open("wb", buffering=0) as file:
        # Also what a checkpoint that is replaced leaves free.
        while process.poll() is None:
            try:
                file.write(bytes(2**20))
            except OSError:
                time.sleep(0.005)
    errors = process.communicate()[1]
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert process.returncode == 2 and len(lines) == 1 and "must be writable" in lines[0], errors
    assert "Traceback" not in errors and not (workdir / "result.json").exists()
    (small_disk / "filler").unlink()
    assert 0 < read_state(workdir / "checkpoints").step < 200
    results = [run_experiment(config, one, resume=True, export=False) for one in (workdir, tmp_path / "whole")]
    assert_went_on(workdir, tmp_path / "whole", results)


def test_images_that_vanish_stop_the_run_with_one_line(bars, tmp_path, monkeypatch):
    shutil.copytree(bars, tmp_path / "data")
    config = make_config(tmp_path / "data", data={"cache": "none"})

    def lose(source, target):
        for path in target.train.images:
            pathlib.Path(path).unlink()
        return {}

    monkeypatch.setattr("jtln_tf.experiment.assembly.count_leaks", lose)
    with pytest.raises(RunStoppedError, match="Every image must stay readable .* which has gone"):
        run_experiment(config, tmp_path / "run")
