import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPOSITORY, make_image_folder


def prepare(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tools.prepare_data", *arguments], cwd=REPOSITORY, capture_output=True, text=True
    )


@pytest.mark.slow
def test_program_writes_whole_or_not_at_all(tmp_path, small_disk):
    make_image_folder(tmp_path / "photos" / "train", ["a", "b", "c"], 7, mode="RGB")
    make_image_folder(tmp_path / "photos" / "test", ["a", "b", "c"], 5, mode="RGB")
    done = prepare(f"--domain=folder:{tmp_path}/photos", f"--output={tmp_path}/out", "--images_per_shard=5")
    assert done.returncode == 0, done.stderr
    assert "36 images, 3 classes, test, train" in done.stdout
    again = prepare(f"--domain=folder:{tmp_path}/photos", f"--output={tmp_path}/out")
    assert again.returncode == 2 and "`output` must be a new folder" in again.stderr
    assert prepare(f"--domain=folder:{tmp_path}/photos", f"--output={tmp_path}/out", "--overwrite").returncode == 0

    big = tmp_path / "big" / "a"
    big.mkdir(parents=True)
    for index in range(4):
        noise = np.random.default_rng(index).integers(0, 256, (400, 400, 3), np.uint8)
        Image.fromarray(noise).save(big / f"{index}.png")
    full = prepare(f"--domain=folder:{tmp_path}/big", f"--output={small_disk}/out")
    assert full.returncode == 2 and len(full.stderr.strip().splitlines()[-1]) < 300, full.stderr
    left = [os.path.relpath(path, small_disk) for path in small_disk.rglob("*") if path.is_file()]
    assert "Traceback" not in full.stderr and left == [".out.prepare_data/lock"]


def test_options_of_runs_are_refused():
    result = prepare("--domain=folder:x?test_fraction=0.5", "--output=y")
    assert result.returncode == 2 and "a run does. Received: test_fraction in" in result.stderr
