"""Plots of accuracies."""

import os

from jtln_tf.report.curves import Curve


def save_accuracy_plot(rows: list[dict], curves: list[list[Curve]], path: str | os.PathLike) -> None:
    """Draws the test accuracy of each run of a comparison as a dot, and the validation accuracy over the steps.

    `curves` has, for each row, the steps and the validation accuracies of each of its runs.
    """
    # The object interface: pyplot would look for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2 + 0.5 * max(4, len(rows))), layout="constrained")
    dots, lines = figure.subplots(1, 2)
    for position, (row, runs) in enumerate(zip(rows, curves, strict=True)):
        values, color = [100 * accuracy for accuracy in row["target_accuracies"]], f"C{position}"
        dots.plot(values, [position] * len(values), "o", color=color, alpha=0.6)
        dots.plot([100 * row["target_accuracy"]], [position], "|", color=color, markersize=24)
        for number, (steps, accuracies) in enumerate(runs):
            percent = [100 * accuracy for accuracy in accuracies]
            lines.plot(steps, percent, color=color, alpha=0.7, label=None if number else row["title"])
    dots.set_yticks(range(len(rows)), [row["title"] for row in rows])
    dots.invert_yaxis()
    dots.set(xlabel="target test accuracy, %  (dot: one seed, bar: mean)")
    dots.grid(axis="x", alpha=0.3)
    lines.set(xlabel="step", ylabel="target validation accuracy, %")
    lines.grid(alpha=0.3)
    lines.legend()
    # The path of a cost matrix may hold dollar signs, which would make it a formula.
    for text in [*dots.get_yticklabels(), *lines.get_legend().get_texts()]:
        text.set_parse_math(False)
    figure.savefig(path, dpi=120)
