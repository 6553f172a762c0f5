import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from jtln_tf.config import InputError, MissingInputError
from jtln_tf.data.cache.array_file import cached_array
from tests.conftest import REPOSITORY

SHAPE = (5, 2, 3)
VALUES = np.arange(30, dtype=np.float32).reshape(SHAPE)


def fill_all(write):
    # In any order, and in pieces.
    write(2, VALUES[2:])
    write(0, VALUES[:2])


def never(write):
    raise AssertionError("made anew")


def start_to_fill(folder, wait):
    """Starts a process that has begun to fill the array `a`, and waits."""
    code = (
        "import runpy, time, numpy as np\n"
        # Its package would import TensorFlow.
        "cached_array = runpy.run_path('jtln_tf/data/cache/array_file.py')['cached_array']\n"
        "def fill(write):\n"
        "    write(0, np.zeros((2, 2, 3)))\n"
        "    print('begun', flush=True)\n"
        f"    {wait}\n"
        f"    write(0, np.full({SHAPE}, 7))\n"
        f"cached_array({str(folder)!r}, 'a', {SHAPE}, np.float32, fill)\n"
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout.readline() == "begun\n"
    return process


def test_an_array_is_made_once_and_then_read_without_writing(tmp_path):
    first = cached_array(tmp_path, "a", SHAPE, np.float32, fill_all)
    np.testing.assert_array_equal(first, VALUES)
    assert isinstance(first, np.memmap) and not first.flags.writeable
    (tmp_path / "a.lock").unlink()
    np.testing.assert_array_equal(cached_array(tmp_path, "a", SHAPE, np.float32, never), VALUES)
    assert os.listdir(tmp_path) == ["a.npy"]


def test_a_file_of_another_shape_or_a_damaged_one_is_made_anew(tmp_path):
    cached_array(tmp_path, "a", (2,), np.float32, lambda write: write(0, np.zeros(2)))
    np.testing.assert_array_equal(cached_array(tmp_path, "a", SHAPE, np.float32, fill_all), VALUES)
    path = tmp_path / "a.npy"
    path.write_bytes(path.read_bytes()[:-4])
    np.testing.assert_array_equal(cached_array(tmp_path, "a", SHAPE, np.float32, fill_all), VALUES)


@pytest.mark.parametrize("error", [PermissionError(13, "denied", "a.jpg"), MissingInputError("gone"), KeyError("x")])
def test_an_error_while_filling_is_passed_on_and_leaves_nothing(tmp_path, error):
    def fail(write):
        write(0, VALUES[:1])
        raise error

    with pytest.raises(type(error)) as caught:
        cached_array(tmp_path, "a", SHAPE, np.float32, fail)
    assert caught.value is error and os.listdir(tmp_path) == ["a.lock"]


def test_a_kill_leaves_no_array_and_a_second_process_waits(tmp_path):
    with start_to_fill(tmp_path, "time.sleep(60)") as process:
        process.send_signal(signal.SIGKILL)
    assert sorted(os.listdir(tmp_path)) == ["a.lock", "a.npy.unfinished"]
    found = []
    second = threading.Thread(target=lambda: found.append(cached_array(tmp_path, "a", SHAPE, np.float32, never)))
    with start_to_fill(tmp_path, "input()") as process:
        second.start()
        second.join(0.5)
        assert second.is_alive()
        process.communicate("\n")
    second.join()
    assert process.returncode == 0 and (found[0] == 7).all() and sorted(os.listdir(tmp_path)) == ["a.lock", "a.npy"]


def test_a_bad_folder_and_a_full_disk_are_told_and_leave_nothing(small_disk, monkeypatch):
    (small_disk.parent / "file").write_text("")
    with pytest.raises(InputError, match="`cache_dir` must be a folder"):
        cached_array(small_disk.parent / "file" / "cache", "a", SHAPE, np.float32, never)
    with pytest.raises(InputError, match=r"`cache_dir` must have 20 MiB free\. Received: .* Hint: .*--cache=none"):
        cached_array(small_disk, "a", (2**22,), np.uint8, never)
    # Another process takes the room that was there.
    monkeypatch.setattr("jtln_tf.data.cache.array_file.check_room", lambda *arguments: None)
    with pytest.raises(InputError, match="`cache_dir` must be a folder that can be written.*No space left"):
        cached_array(small_disk, "a", (2**21,), np.uint8, lambda write: write(0, np.ones(2**21, np.uint8)))
    assert os.listdir(small_disk) == ["a.lock"]
