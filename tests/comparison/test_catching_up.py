import pytest

from jtln_tf.comparison.catching_up import find_catch_up
from jtln_tf.monitoring import AccuracyCurve


def test_the_first_step_that_reaches_the_last_accuracy_of_the_other_counts():
    curves = [
        AccuracyCurve((0, 20, 40), (3.0, 3.5, 4.0), (0.3, 0.6, 0.5)),
        AccuracyCurve((0, 20, 40), (1.0, 1.5, 2.0), (0.1, 0.2, 0.3)),
        AccuracyCurve(),
    ]
    goals = [
        AccuracyCurve((5, 10), (5.0, 6.0), (0.9, 0.6)),
        AccuracyCurve((5, 10), (7.0, 8.0), (0.1, 0.4)),
        AccuracyCurve((5,), (9.0,), (0.0,)),
    ]
    found = find_catch_up(curves, goals)
    assert found == {"runs": 0.5, "steps": 20, "seconds": pytest.approx(3.5), "of_seconds": pytest.approx(6.0)}
    assert find_catch_up(curves[1:], goals[1:]) is None
    untimed = AccuracyCurve((5, 10), (None, None), (0.1, 0.1))
    assert find_catch_up([curves[0], untimed], [untimed, goals[0]]) is None
