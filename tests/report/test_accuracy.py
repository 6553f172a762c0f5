import numpy as np
import pytest
from PIL import Image

from jtln_tf.report.accuracy import save_accuracy_plot


@pytest.mark.parametrize(
    "title", ["JTLN", "consecutive with Co-Tuning, flagfile=runs/tuned/mirror/co_tuning/co_tuning.flags"]
)
def test_titles_leave_room_for_the_axes(title, tmp_path):
    """matplotlib warns, which is an error here, if they do not."""
    rows = [
        {"title": f"{title} {number}", "target_accuracies": [0.5, 0.6], "target_accuracy": 0.55} for number in range(11)
    ]
    save_accuracy_plot(rows, [[([0, 50], [0.1, 0.2])] for _ in rows], tmp_path / "accuracy.png")
    assert np.ptp(np.asarray(Image.open(tmp_path / "accuracy.png").convert("L"))) > 100
