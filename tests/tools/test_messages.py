"""What programs write beside their progress bars."""

import json
import logging
import sys

import pytest
import tqdm

from jtln_tf.tools.messages import MessageHandler, emphasize


def test_notes_are_plain_warnings_are_marked_and_a_bar_stays_whole(capsys):
    logger = logging.Logger("program")
    logger.addHandler(MessageHandler())
    bar = tqdm.tqdm(total=2, desc="steps", file=sys.stderr, mininterval=0)
    logger.info("step %d", 1)
    bar.update(2)
    bar.close()
    logger.warning("odd")
    lines = capsys.readouterr().err.replace("\r", "\n").split("\n")
    assert "step 1" in lines and lines[-2:] == ["warning: odd", ""]
    assert any(line.startswith("steps: 100%") for line in lines)


@pytest.mark.parametrize(("is_terminal", "no_color"), [(True, ""), (True, "1"), (False, "")])
def test_colours_are_for_terminals_that_want_them(capsys, monkeypatch, is_terminal, no_color):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    logger = logging.Logger("program")
    logger.addHandler(MessageHandler())
    logger.info("loss 1, accuracy 50 %", extra={"strong": "accuracy 50 %"})
    logger.warning("odd")
    logger.error("wrong")
    shown = capsys.readouterr().err
    if is_terminal and not no_color:
        assert (
            shown == "loss 1, \x1b[1maccuracy 50 %\x1b[0m\n\x1b[33mwarning:\x1b[0m odd\n\x1b[31merror:\x1b[0m wrong\n"
        )
    else:
        assert shown == "loss 1, accuracy 50 %\nwarning: odd\nerror: wrong\n"
    assert ("\x1b" in emphasize("x", sys.stderr)) == (is_terminal and not no_color)


def test_json_lines_hold_the_figures_and_nothing_that_json_lacks(capsys):
    logger = logging.Logger("program")
    logger.addHandler(MessageHandler(is_json=True))
    logger.info("two\nlines of \udc80", extra={"figures": {"step": 3, "loss": float("nan"), "seconds_left": None}})
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry.pop("time").endswith("+00:00")
    expected = {"level": "info", "message": "two\nlines of \udc80", "step": 3, "loss": None, "seconds_left": None}
    assert entry == expected
