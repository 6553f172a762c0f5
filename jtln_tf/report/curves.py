"""Curves of a run over its steps."""

import typing
from collections.abc import Mapping

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = tuple[list[float], list[float]]
# More are hard to tell apart.
_MARKED_POINTS = 40


def draw_curves(
    curves: Mapping[str, Curve], unit: str, *, factor: float = 1.0, best_step: int | None = None
) -> "Figure":
    """Draws curves, (steps, values) by name, into one picture.

    Args:
        curves: The curves.
        unit: What the values are.
        factor: What they are multiplied by.
        best_step: Step that is marked.
    """
    # Not pyplot, which would look for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, (steps, values) in curves.items():
        marker = "." if len(steps) <= _MARKED_POINTS else ""
        # A single point needs its mark.
        axes.plot(steps, [factor * value for value in values], marker=marker, label=name)
    if best_step:
        axes.axvline(best_step, color="gray", linestyle=":", label=f"best step, {best_step}")
    axes.set(xlabel="step", ylabel=unit)
    axes.grid(alpha=0.3)
    for text in axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5)).get_texts():
        text.set_parse_math(False)
    return figure
