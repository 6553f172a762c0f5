import io
import logging
import sys

from jtln_tf.comparison.jobs import Cell
from jtln_tf.comparison.plan import Variant
from jtln_tf.comparison.progress import Progress
from tests.experiment.runs import make_config


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_over_all_runs_stands_on_a_terminal_alone(bars, monkeypatch):
    cell = Cell(Variant(make_config(bars, "joint"), label_count=3), 1)
    for stream, count in ((Terminal(), "1/4"), (io.StringIO(), "")):
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress(4) as progress:
            progress.tell(cell, {"target_accuracy": 0.5}, "food")
        text = stream.getvalue()
        assert count in text and ("food, joint without OT, 3 label(s) a class, seed 1" in text) == bool(count)


def test_kept_runs_say_nothing_of_the_time_left(bars, monkeypatch, caplog):
    clock = iter([0.0, 1.0, 60.0])
    monkeypatch.setattr("jtln_tf.comparison.progress.time.monotonic", lambda: next(clock))
    cell = Cell(Variant(make_config(bars, "joint"), label_count=3), 1)
    with caplog.at_level(logging.INFO, "jtln_tf"), Progress(4) as progress:
        progress.tell(cell, {"target_accuracy": 0.5}, is_kept=True)
        progress.tell(cell, {"target_accuracy": 0.5})
    assert "left" not in caplog.messages[0] and "about 2 min left" in caplog.messages[1]
