import numpy as np
import pytest
from scipy import stats

from jtln_tf.comparison.differences import describe_differences, find_differences


def row(method, accuracies, changes=None, seeds=(0, 1, 2)):
    mean = float(np.mean(accuracies))
    folder = method if changes is None else f"{method}-{changes}"
    return {
        "method": method,
        "changes": changes,
        "folder": folder,
        "seeds": list(seeds),
        "target_accuracies": accuracies,
        "target_accuracy": mean,
    }


def test_the_interval_is_that_of_the_paired_t_test():
    one, other = np.random.default_rng(0).random((2, 6))
    found = describe_differences(list(one - other))
    expected = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(np.mean(one) - np.mean(other))
    alone = describe_differences([0.25])
    assert (alone.mean, alone.low, alone.high) == (0.25, None, None)


def test_a_row_is_compared_with_the_yardsticks_and_with_the_best_other_method():
    ours, probe = row("jtln", [0.7, 0.8, 0.9]), row("linear_probe", [0.5, 0.5, 0.8])
    plain, random = row("consecutive", [0.6, 0.6, 0.6]), row("consecutive", [0.7, 0.7, 0.7], "start=random")
    weak, partial = row("jtln", [0.1, 0.1, 0.1], "steps=1"), row("joint", [1.0], seeds=(0,))
    rows = [ours, probe, random, plain, weak, partial]
    found = find_differences(ours, rows, ("linear_probe", "consecutive", "l2_sp"))
    assert list(found) == ["linear_probe", "consecutive", "best_other"]
    assert found["linear_probe"]["values"] == pytest.approx((0.2, 0.3, 0.1)) and found["linear_probe"][
        "mean"
    ] == pytest.approx(0.2)
    assert found["consecutive"]["to"] == "consecutive" and found["consecutive"]["mean"] == pytest.approx(0.2)
    assert found["best_other"]["to"] == "consecutive-start=random"
    assert list(find_differences(probe, rows, ("linear_probe",))) == ["best_other"]
    assert find_differences(random, rows, ("consecutive",))["consecutive"]["mean"] == pytest.approx(0.1)
    assert find_differences(partial, rows, ("linear_probe",)) == {}
