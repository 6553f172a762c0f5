"""Summarizes the runs of `jtln compare --pairs`: the accuracies, and how far JTLN is above each method.

    python -m benchmarks.summary --runs=docs/results_frozen.csv

reads `table.csv` of a comparison and prints the accuracies by method and line, the differences by line and by pair, the
means over all lines, and which score foretells the gain, as in docs/results.md. With --defaults=FILE, the table of a
comparison of the same methods with default settings, it also prints what the settings of the first one gained.
"""

import csv
import re
import statistics
from collections.abc import Sequence

from absl import flags
from scipy import stats

from jtln_tf.comparison.differences import describe_differences
from jtln_tf.report.comparison_page import format_gap
from jtln_tf.tools.program import run_program

flags.DEFINE_string("runs", "docs/results_frozen.csv", "The file table.csv of a comparison.")
flags.DEFINE_string("defaults", "", "The file table.csv of the same methods with default settings.")

_OURS = "jtln"
# Those that were run are compared with.
_YARDSTICKS = ("linear_probe", "linear_probe?neck=identity", "consecutive?neck=none", "consecutive")
_RELATED = ("linear_probe", "joint")
_SCORES = ("agreement", "leep", "logme", "h_score")
# A rank correlation of fewer lines says nothing.
_LEAST_RELATED = 4
# Name, factor, decimals and head of each.
_FIGURES = (
    ("target_accuracy", 100, 1, "accuracy, %"),
    ("target_top5_accuracy", 100, 1, "top 5, %"),
    ("target_loss", 1, 2, "loss"),
    ("target_calibration_error", 100, 1, "calibration error, %"),
)

Lines = dict[tuple[str, str], dict[str, list[dict]]]


def read_lines(path: str) -> Lines:
    """Returns the runs of each method, by pair and number of labels, in the order of their seeds.

    A method whose settings are in a file goes by its name without that file.
    """
    lines = {}
    with open(path, encoding="utf-8", newline="") as file:
        for run in csv.DictReader(file):
            changes = re.sub("&?flagfile=[^&]*", "", run["changes"])
            method = "?".join(filter(None, (run["method"], changes)))
            lines.setdefault((run.get("pair", ""), run["label_count"]), {}).setdefault(method, []).append(run)
    return lines


def list_gaps(lines: Sequence[dict[str, list[dict]]], method: str) -> list[float]:
    """Returns how far JTLN is above a method for each seed, as the mean over lines."""
    runs = [zip(line[_OURS], line[method], strict=True) for line in lines]
    gaps = [[float(one["target_accuracy"]) - float(other["target_accuracy"]) for one, other in own] for own in runs]
    return [statistics.mean(values) for values in zip(*gaps, strict=True)]


def format_accuracies(lines: Lines) -> str:
    """Formats the mean accuracy of each method in each line, in %, as Markdown: a row a method, then its mean.

    A line that a method was not run in stays empty, and so does the mean.
    """
    heads = [f"{pair}, {count}" for pair, count in lines]
    text = [f"| method | {' | '.join(heads)} | mean |", "|---" * (len(heads) + 2) + "|"]
    for method in dict.fromkeys(method for line in lines.values() for method in line):
        runs = [[100 * float(run["target_accuracy"]) for run in line.get(method, ())] for line in lines.values()]
        means = [statistics.mean(own) if own else None for own in runs]
        means.append(None if None in means else statistics.mean(means))
        text.append(f"| {method} | {' | '.join('' if mean is None else f'{mean:.1f}' for mean in means)} |")
    return "\n".join(text)


def format_lines(lines: Lines) -> str:
    """Formats the differences of each line, then those of each pair, as Markdown; empty if there is no yardstick."""
    yardsticks = [name for name in _YARDSTICKS if name in _list_common(lines)]
    if not yardsticks:
        return ""
    heads = ["pair", "labels a class", *(f"minus {name}" for name in yardsticks)]
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    pairs = dict.fromkeys(pair for pair, _ in lines)
    groups = {key: [line] for key, line in lines.items()}
    groups |= {(pair, "all"): [line for (name, _), line in lines.items() if name == pair] for pair in pairs}
    for (pair, count), own in groups.items():
        gaps = [format_gap(describe_differences(list_gaps(own, name))) for name in yardsticks]
        text.append(f"| {pair} | {count} | {' | '.join(gaps)} |")
    return "\n".join(text)


def format_methods(lines: Lines) -> str:
    """Formats the means of each method that all lines have, and how far JTLN is above it, as Markdown."""
    heads = [head for *_, head in _FIGURES]
    text = [f"| method | {' | '.join(heads)} | {_OURS} minus it |", "|---" * (len(heads) + 2) + "|"]
    for method in _list_common(lines):
        means = [f"{factor * _mean(lines, method, name):.{digits}f}" for name, factor, digits, _ in _FIGURES]
        # Here a line counts as one, whatever its seeds.
        gaps = [statistics.mean(list_gaps([line], method)) for line in lines.values()]
        gain = "" if method == _OURS else format_gap(describe_differences(gaps))
        text.append(f"| {method} | {' | '.join(means)} | {gain} |")
    return "\n".join(text)


def format_changes(lines: Lines, defaults: Lines) -> str:
    """Formats what the settings of each method gained over its default ones on the same lines, as Markdown."""
    text = ["| method | mean | mean with defaults | tuned - default |", "|---" * 4 + "|"]
    for method in _list_common(lines):
        means, gaps = [], []
        for key, line in lines.items():
            pair = [[float(run["target_accuracy"]) for run in runs[method]] for runs in (line, defaults[key])]
            means.append([100 * statistics.mean(own) for own in pair])
            gaps.append([after - before for after, before in zip(*pair, strict=True)])
        told = " | ".join(f"{statistics.mean(column):.1f}" for column in zip(*means, strict=True))
        gain = describe_differences([statistics.mean(seed) for seed in zip(*gaps, strict=True)])
        text.append(f"| {method} | {told} | {format_gap(gain)} |")
    return "\n".join(text)


def find_score(line: dict[str, list[dict]], name: str) -> float | None:
    """Returns a score before training, as the mean over the runs of JTLN, or else of a method that tells it."""
    told = [[float(run[name]) for run in runs if run.get(name)] for runs in (line[_OURS], *line.values())]
    return next((statistics.mean(scores) for scores in told if scores), None)


def format_relations(lines: Lines) -> str:
    """Formats Spearman's correlation of each score before training with how far JTLN is above others, as Markdown.

    Scores and methods that a line lacks are left out. The text is empty if none is left, or for fewer than four lines.
    """
    related = [name for name in _RELATED if name in _list_common(lines)]
    scores = {name: [find_score(line, name) for line in lines.values()] for name in _SCORES}
    scores = {name: values for name, values in scores.items() if None not in values}
    if len(lines) < _LEAST_RELATED or not related or not scores:
        return ""
    text = [f"| score | {' | '.join(f'with minus {name}' for name in related)} |", "|---" * (len(related) + 1) + "|"]
    for score, values in scores.items():
        gains = [[statistics.mean(list_gaps([line], name)) for line in lines.values()] for name in related]
        found = [stats.spearmanr(values, own).statistic for own in gains]
        text.append(f"| {score} | {' | '.join(f'{one:+.2f}' for one in found)} |")
    return "\n".join(text)


def _list_common(lines):
    """Returns the methods that all lines have, in the order of the first."""
    first, *others = lines.values()
    return [method for method in first if all(method in line for line in others)]


def _mean(lines, method, name):
    # Few classes have no five best.
    values = [[float(run[name]) for run in line[method] if run[name]] for line in lines.values()]
    return statistics.mean(statistics.mean(own) for own in values if own)


def main():
    """Prints the tables."""
    lines = read_lines(flags.FLAGS.runs)
    tables = [format_accuracies(lines), format_lines(lines), format_methods(lines), format_relations(lines)]
    if flags.FLAGS.defaults:
        tables.append(format_changes(lines, read_lines(flags.FLAGS.defaults)))
    print(*filter(None, tables), sep="\n\n")


if __name__ == "__main__":
    run_program(main, __doc__)
