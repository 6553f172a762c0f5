import json
import subprocess
import sys

import pytest

from jtln_tf.export.saved_model import export_network
from jtln_tf.network import build_network


@pytest.mark.slow
def test_a_row_for_each_size_and_number_of_threads(repository, tmp_path):
    network = build_network("small_cnn", 2, 2, image_shape=(8, 8, 1))
    export_network(network, tmp_path / "export", source_classes="ab", target_classes="xy")
    flags = [f"--model={tmp_path / 'export'}", "--batches=1,3", "--threads=1,2", "--seconds=0.05"]
    command = [sys.executable, "-m", "benchmarks.serving", *flags, f"--json={tmp_path / 'figures.json'}"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [(row["threads"], row["batch"]) for row in rows] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert all(row["rate"] > 0 and row["p99_ms"] >= row["p50_ms"] > 0 for row in rows) and rows[0]["ratio"] == 1
