"""How far one line of a table is above another, from runs with the same seed and so with the same labels."""

import dataclasses
import statistics
from collections.abc import Sequence

from jtln_tf.report.comparison_page import Gap, format_gap, half_interval


def find_differences(row: dict, rows: list[dict], yardsticks: Sequence[str]) -> dict[str, dict]:
    """Returns the differences of a row to each yardstick, and to the best other method, JSON values by name.

    Args:
        row: Row of the table, with `target_accuracies` by seed.
        rows: All rows with the same number of labels.
        yardsticks: Names of methods; those that no other row has, as it is by default, are left out.

    Returns:
        `Gap` fields by the yardstick's name, and by `best_other` for the row with the highest mean accuracy
        among all others.
    """
    others = [other for other in rows if other["folder"] != row["folder"] and other["seeds"] == row["seeds"]]
    found = {}
    for name in yardsticks:
        plain = [other for other in others if other["method"] == name and not other["changes"]]
        if plain:
            found[name] = _compare(row, plain[0])
    if others := [other for other in others if other["method"] != row["method"]]:
        found["best_other"] = _compare(row, max(others, key=lambda other: other["target_accuracy"]))
    return found


def _compare(row, other):
    pairs = zip(row["target_accuracies"], other["target_accuracies"], strict=True)
    return dataclasses.asdict(describe_differences([one - two for one, two in pairs], to=other["folder"]))


def describe_differences(values: Sequence[float], *, to: str = "") -> Gap:
    """Returns the mean of paired differences and its 95 % interval, by Student's t (paired)."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return Gap(mean, None, None, list(values), to)
    reach = half_interval(values)
    return Gap(mean, mean - reach, mean + reach, list(values), to)


def format_difference(values: dict | None) -> str:
    """Formats what a row holds of a difference; an empty text for None."""
    return format_gap(values and Gap(**values))
