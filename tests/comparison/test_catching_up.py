import pytest

from jtln_tf.comparison.catching_up import find_catch_up


def test_the_first_step_that_reaches_the_last_accuracy_of_the_other_counts():
    curves = [([10, 20, 40], [0.3, 0.6, 0.5]), ([10, 20, 40], [0.1, 0.2, 0.3]), ([], [])]
    goals = [([5, 10], [0.9, 0.6]), ([5, 10], [0.1, 0.4]), ([5], [0.0])]
    found = find_catch_up(curves, goals, [8.0, 8.0, 8.0])
    assert found == {"runs": 0.5, "steps": 20, "seconds": pytest.approx(4.0)}
    assert find_catch_up(curves[1:], goals[1:], [8.0, 8.0]) is None
