"""How soon a method is as good as another one is in the end, by validation images."""

import statistics
from collections.abc import Sequence

from jtln_tf.monitoring import AccuracyCurve


def find_catch_up(curves: Sequence[AccuracyCurve], goals: Sequence[AccuracyCurve]) -> dict | None:
    """Returns when the runs of a method reach the last validation accuracy of other runs of the same seeds.

    Args:
        curves: Curve of each run.
        goals: Those of the other method's runs.

    Returns:
        `runs`, the share of the runs that get there at all, and the mean `steps` and `seconds` of these, with
        `of_seconds`, the mean time of the other runs up to their last validation; None if there are no validation
        accuracies, or no run gets there.
    """
    # A release that wrote no seconds leaves None.
    pairs = [
        (curve, goal)
        for curve, goal in zip(curves, goals, strict=True)
        if curve.steps and goal.steps and None not in (*curve.seconds, *goal.seconds)
    ]
    found = []
    for curve, goal in pairs:
        points = zip(curve.steps, curve.seconds, curve.accuracies, strict=True)
        reached = next(((step, time) for step, time, value in points if value >= goal.accuracies[-1]), None)
        if reached is not None:
            found.append((*reached, goal.seconds[-1]))
    if not found:
        return None
    steps, seconds, of_seconds = (statistics.mean(values) for values in zip(*found, strict=True))
    return {"runs": len(found) / len(pairs), "steps": steps, "seconds": seconds, "of_seconds": of_seconds}
