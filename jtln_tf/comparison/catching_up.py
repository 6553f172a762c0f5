"""How soon a method is as good as another one is in the end, by validation images."""

import statistics
from collections.abc import Sequence

Curve = tuple[Sequence[int], Sequence[float]]


def find_catch_up(curves: Sequence[Curve], goals: Sequence[Curve], seconds: Sequence[float]) -> dict | None:
    """Returns when the runs of a method reach the last validation accuracy of other runs of the same seeds.

    Args:
        curves: Steps and validation accuracies of each run.
        goals: Those of the other method's runs.
        seconds: Training time of each run; a step is taken to last as long as any other.

    Returns:
        `runs`, the share of the runs that get there at all, and the mean `steps` and `seconds` of these; None if there
        are no validation accuracies, or no run gets there.
    """
    found, compared = [], 0
    for (steps, accuracies), (_, others), duration in zip(curves, goals, seconds, strict=True):
        if not accuracies or not others:
            continue
        compared += 1
        step = next((step for step, accuracy in zip(steps, accuracies, strict=True) if accuracy >= others[-1]), None)
        if step is not None:
            found.append((step, duration * step / steps[-1]))
    if not found:
        return None
    means = [statistics.mean(values) for values in zip(*found, strict=True)]
    return {"runs": len(found) / compared, "steps": means[0], "seconds": means[1]}
