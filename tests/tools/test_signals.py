"""What a training program does when a signal ends it."""

import signal
import subprocess
import sys
import time

import pytest

from jtln_tf.trainer.checkpoints import TrainingState, read_state
from tests.tools.test_programs import CROP


def notice_signals():
    """Undoes what `nohup`, and a shell that starts them in the background, do to the tests."""
    for one in (signal.SIGHUP, signal.SIGINT):
        signal.signal(one, signal.SIG_DFL)


@pytest.mark.slow
def test_signals_save_and_exit_as_schedulers_expect(repository, tmp_path, bars):
    flags = ["--source=folder:source", "--target=folder:target?per_class=3", f"--data_root={bars}", "--method=joint"]
    flags += [
        "--backbone=small_cnn",
        "--image_size=16",
        "--channels=1",
        *CROP,
        "--steps=100000",
        "--steps_per_epoch=50",
    ]
    for name, status, more in (
        (signal.SIGTERM, 75, flags),
        (signal.SIGHUP, 75, ["--resume"]),
        (signal.SIGINT, 130, ["--resume"]),
    ):
        before = read_state(tmp_path / "checkpoints")
        command = [sys.executable, "-m", "jtln_tf", "train", *more, f"--workdir={tmp_path}"]
        options = {"cwd": repository, "stderr": subprocess.PIPE, "text": True, "preexec_fn": notice_signals}
        with subprocess.Popen(command, **options) as process:
            while process.poll() is None and (read_state(tmp_path / "checkpoints") or TrainingState()) == (
                before or TrainingState()
            ):
                time.sleep(0.1)
            process.send_signal(name)
            shown = process.communicate(timeout=300)[1]
        step = read_state(tmp_path / "checkpoints").step
        assert process.returncode == status and f"error: stopped by {name.name}; step {step} is saved. " in shown, shown
        assert "Traceback" not in shown and not (tmp_path / "result.json").exists()
