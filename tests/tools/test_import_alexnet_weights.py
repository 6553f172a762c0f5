import re
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


def program(*arguments):
    command = [sys.executable, "-m", "tools.import_alexnet_weights", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input=none.npy", "--output=a.weights.h5"], "error: `input` must name an existing file"),
        (["--input={dump}", "--output=a.h5"], "error: `output` must be a .weights.h5 file. Received: 'a.h5'"),
        (["--input={dump}", "--output={there}"], "error: `output` must not exist. .*Hint: --overwrite"),
    ],
)
def test_flags_are_checked_before_tensorflow_is_loaded(flags, message, tmp_path):
    dump, there = tmp_path / "dump.npy", tmp_path / "there.weights.h5"
    dump.touch()
    there.touch()
    result = program(*(flag.format(dump=dump, there=there) for flag in flags))
    assert result.returncode == 2 and "TensorFlow" not in result.stderr
    assert len(result.stderr.splitlines()) == 1 and re.match(message, result.stderr)
