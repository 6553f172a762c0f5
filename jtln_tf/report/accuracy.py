"""Plots of accuracies."""

import os
import textwrap

from jtln_tf.report.curves import Curve

# Titles with more letters are wrapped: flags with paths would leave no room for the axes.
_WIDEST = 36


def save_accuracy_plot(rows: list[dict], curves: list[list[Curve]], path: str | os.PathLike) -> None:
    """Draws the test accuracy of each run of a comparison as a dot, and the validation accuracy over the steps.

    `curves` has, for each row, the steps and the validation accuracies of each of its runs.
    """
    # The object interface: pyplot would look for a screen.
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    titles = [textwrap.fill(row["title"], _WIDEST) for row in rows]
    height = max(0.5, *(0.2 * (1 + title.count("\n")) for title in titles))
    colors = colormaps["tab10" if len(rows) <= 10 else "tab20"]
    figure = Figure(figsize=(11, 2 + height * max(4, len(rows))), layout="constrained")
    dots, lines = figure.subplots(1, 2)
    for position, (row, runs) in enumerate(zip(rows, curves, strict=True)):
        values, color = [100 * accuracy for accuracy in row["target_accuracies"]], colors(position % colors.N)
        dots.plot(values, [position] * len(values), "o", color=color, alpha=0.6)
        dots.plot([100 * row["target_accuracy"]], [position], "|", color=color, markersize=24)
        for steps, accuracies in runs:
            percent = [100 * accuracy for accuracy in accuracies]
            lines.plot(steps, percent, color=color, alpha=0.7)
    dots.set_yticks(range(len(rows)), titles)
    dots.invert_yaxis()
    dots.set(xlabel="target test accuracy, %  (dot: one seed, bar: mean)")
    dots.grid(axis="x", alpha=0.3)
    lines.set(xlabel="step  (colours as on the left)", ylabel="target validation accuracy, %")
    lines.grid(alpha=0.3)
    # The path of a cost matrix may hold dollar signs, which would make it a formula.
    for text in dots.get_yticklabels():
        text.set_parse_math(False)
    figure.savefig(path, dpi=120)
