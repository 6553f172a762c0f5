"""What programs write beside their progress bars."""

import logging
import sys

import tqdm

from jtln_tf.tools.messages import MessageHandler


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
