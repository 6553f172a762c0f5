import contextlib
import dataclasses
import logging
import multiprocessing
import os
import signal

import pytest

from jtln_tf.comparison.jobs import Cell, choose_cell, run_cells
from jtln_tf.comparison.run import run_comparison
from jtln_tf.config import DataConfig, InputError, RunStoppedError
from tests.comparison.test_run import variants

JOINT, L2_SP, JTLN = variants("joint", "l2_sp", "jtln", steps=2)
REFUSED, KILLED = 98, 99


@pytest.mark.parametrize(
    ("waiting", "last", "others", "expected"),
    [
        ([JOINT, L2_SP], None, [], 0),
        ([JOINT, L2_SP], L2_SP, [], 1),
        ([JOINT, L2_SP], None, [JOINT], 1),
        ([JOINT, JOINT], L2_SP, [JOINT], 1),
        ([JOINT, JTLN, L2_SP], L2_SP, [L2_SP], 2),
    ],
)
def test_a_process_stays_with_its_method_and_else_takes_one_that_is_free(waiting, last, others, expected):
    others = [Cell(other, 1) for other in others]
    assert choose_cell([Cell(one, 0) for one in waiting], last and Cell(last, 1), others) == expected


def make_stand_in():
    """Returns what takes no time, and fails for two seeds."""

    def run(cell):
        if cell.seed == REFUSED:
            raise InputError("`labels` must be many. Received: few.")
        if cell.seed == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        logging.getLogger("jtln_tf").warning("process %d is at work", os.getpid())
        return {"process": os.getpid(), "seed": cell.seed}

    return run


@pytest.mark.parametrize(("source", "num_here"), [("builtin:mnist5k", 0), ("tfds:mnist", 1), ("folder:photos", 1)])
def test_a_process_begins_its_next_run_before_the_last_one_is_looked_at(monkeypatch, source, num_here):
    class Worker(contextlib.nullcontext):
        def __init__(self, *_):
            super().__init__(self)
            self.connection, self._theirs = multiprocessing.Pipe()
            self.cell = self.last = None

        def begin(self, cell):
            self.cell = self.last = cell
            begun.append(cell.seed)
            self._theirs.send(cell.seed)

        def receive(self):
            ended, self.cell = self.cell, None
            return ended, self.connection.recv()

    begun = []
    monkeypatch.setattr("jtln_tf.comparison.jobs._Worker", Worker)
    # What `auto` stands for with photographs.
    monkeypatch.setattr("jtln_tf.config.pretrained.find_lite0_weights", lambda: "weights.pth")
    backbone = "auto" if source.startswith("folder:") else "small_cnn"
    (line,) = variants("joint", data=DataConfig(source=source, target="builtin:optdigits"))
    network = dataclasses.replace(line.config.network, backbone=backbone)
    line = dataclasses.replace(line, config=dataclasses.replace(line.config, network=network))
    runs = run_cells([Cell(line, seed) for seed in range(5)], lambda: lambda cell: cell.seed, 2)
    # The first run of a data set to prepare, or of a pretrained backbone, is made here, before the others.
    assert [next(runs)[1] for _ in range(num_here + 1)] == list(range(num_here + 1)) and len(begun) == 3
    assert sorted(result for _, result in runs) == list(range(num_here + 1, 5))
    assert sorted(begun) == list(range(num_here, 5))


def test_the_run_that_goes_ahead_looks_at_both_domains():
    data = DataConfig(source="tfds:mnist", target="builtin:optdigits")
    probe, joint = variants("linear_probe", "joint", data=data)
    runs = run_cells([Cell(probe, 0), Cell(joint, 1), Cell(joint, 2)], lambda: lambda cell: cell.seed, 2)
    assert next(runs)[1] == 1


@pytest.mark.slow
def test_cells_run_in_several_processes_and_a_fault_of_one_ends_all(caplog):
    cells = [Cell(JOINT, seed) for seed in range(8)]
    ended = list(run_cells(cells, make_stand_in, 2))
    assert sorted(result["seed"] for _, result in ended) == list(range(8))
    assert all(cell.seed == result["seed"] for cell, result in ended)
    processes = {result["process"] for _, result in ended}
    assert len(processes) == 2 and os.getpid() not in processes
    assert sum("is at work" in record.getMessage() for record in caplog.records) == 8
    with pytest.raises(InputError, match="`labels` must be many. Received: few."):
        list(run_cells([*cells, Cell(JOINT, REFUSED)], make_stand_in, 2))
    with pytest.raises(RunStoppedError, match=r"one ended with status -9.* Hint: fewer --jobs"):
        list(run_cells([*cells, Cell(JOINT, KILLED)], make_stand_in, 2))


@pytest.mark.slow
def test_runs_at_once_end_as_runs_in_a_row(tmp_path):
    few = DataConfig(source="builtin:mnist5k?per_class=5", target="builtin:optdigits")
    lines = variants("joint", "jtln", data=few, steps=3)
    rows = [run_comparison(lines, range(2), tmp_path / str(jobs), jobs=jobs) for jobs in (1, 2)]
    accuracies = [[(row["title"], row["label_count"], row["target_accuracies"]) for row in one] for one in rows]
    assert accuracies[0] == accuracies[1]
