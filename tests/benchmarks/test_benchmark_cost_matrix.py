import json
import subprocess
import sys

SMALL = ["--dimension=8", "--num_frequencies=20"]


def run(repository, *arguments):
    command = [sys.executable, "-m", "benchmarks.cost_matrix", *arguments]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True)


def test_table_of_growing_sizes(repository, tmp_path):
    path = tmp_path / "costs.json"
    done = run(repository, *SMALL, "--sizes=40,80", "--classes=5", "--least_seconds=0.01", f"--json={path}")
    assert done.returncode == 0, done.stderr
    figures = json.loads(path.read_text())
    assert [(row["method"], row["images"]) for row in figures] == [
        (method, size) for method in ("exact", "linear") for size in (40, 80)
    ]
    assert all(row["seconds"] > 0 and row["peak_mib"] >= row["before_mib"] > 0 for row in figures)
    lines = done.stdout.splitlines()
    assert lines[2].startswith("| exact | 40 | ") and "(x " not in lines[2] and "(x " in lines[3]
