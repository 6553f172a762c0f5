import pathlib
import subprocess
import sys

import pytest

from benchmarks.damages import DAMAGES
from benchmarks.reliability import format_rows


def test_the_table_counts_what_ended_alike():
    rows = [{"kind": "SIGKILL", "outcome": "same bits", "told": ""}] * 3 + [
        {"kind": "cut", "outcome": "same bits", "told": "is used"},
        {"kind": "flipped", "outcome": "refused in one line", "told": "digest"},
    ]
    assert format_rows(rows).splitlines()[2:] == [
        "| SIGKILL | 3 | same bits |",
        "| cut | 1 | same bits, and told: “is used” |",
        "| flipped | 1 | refused in one line |",
    ]


def test_kinds_of_damage_are_different():
    assert len({damage.name for damage in DAMAGES}) == len(DAMAGES) >= 30


@pytest.mark.slow
def test_killed_and_damaged_runs_end_as_they_must():
    """As `docs/reliability.md` says, for the first kinds of each."""
    command = [sys.executable, "-m", "benchmarks.reliability", "--kills=2", "--damages=5"]
    repository = pathlib.Path(__file__).resolve().parents[2]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and "7 of 7 as they must be." in result.stdout, result.stdout + result.stderr
