"""The table of a comparison."""

import csv
import io
import statistics

from jtln_tf.comparison.catching_up import find_catch_up
from jtln_tf.comparison.differences import find_differences, format_difference
from jtln_tf.comparison.plan import Variant
from jtln_tf.methods import YARDSTICKS, Consecutive
from jtln_tf.monitoring import AccuracyCurve

_GOAL = Consecutive.name
# Figures of `result.json` whose means stand in a row.
_MEANS = ("target_macro_accuracy", "target_loss", "target_top5_accuracy", "target_calibration_error")
# What is known before training of how the source serves the target.
_SCORES = ("leep", "logme", "h_score", "agreement")


def summarize(variant: Variant, results: list[dict]) -> dict:
    """Returns the row of a variant, JSON values, from the results of its runs."""
    accuracies = [result["target_accuracy"] for result in results]
    shared = [result for result in results if "namesakes" in result]
    return {
        "method": variant.config.method.name,
        "changes": variant.changes or None,
        "cost_matrix": variant.cost_matrix or None,
        "label_count": variant.label_count,
        "title": variant.title,
        "folder": variant.folder,
        "target_accuracy": statistics.mean(accuracies),
        "target_accuracy_std": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "target_accuracies": accuracies,
        **{name: _mean_of(results, name) for name in _MEANS},
        **_mean_scores(results),
        "train_seconds": statistics.mean(result["train_seconds"] for result in results),
        "all_train_seconds": [result["train_seconds"] for result in results],
        "namesakes_nearest": [result["namesakes_nearest"] for result in shared] or None,
        "seeds": [result["seed"] for result in results],
        "steps": results[0]["steps"],
        "versions": results[0]["versions"],
    }


def _mean_scores(results):
    """Returns the means of what the runs say of how the source serves the target, if they do."""
    scores = [_join_scores(result) for result in results]
    found = {name: _mean_of(scores, name) for name in _SCORES}
    return {"transferability": {name: mean for name, mean in found.items() if mean is not None}}


def _join_scores(result):
    return {**result.get("transferability", {}), "agreement": result.get("transport_agreement")}


def _mean_of(results, name):
    # Runs of older releases lack some figures, and few classes have no five best.
    values = [result.get(name) for result in results]
    return None if None in values else statistics.mean(values)


def sort_rows(rows: list[dict]) -> list[dict]:
    """Returns the rows by label count, and adds to each its `differences` to other rows with the same labels."""
    rows = sorted(rows, key=lambda row: row["label_count"] or 0)
    by_count = {
        row["label_count"]: [other for other in rows if other["label_count"] == row["label_count"]] for row in rows
    }
    return [{**row, "differences": find_differences(row, by_count[row["label_count"]], YARDSTICKS)} for row in rows]


def add_catch_up(rows: list[dict], curves: dict[str, list[AccuracyCurve]]) -> list[dict]:
    """Returns the rows with `catch_up`: when each reaches the last validation accuracy of consecutive training.

    It has the title of each line of consecutive training, which may stand in the table with several starts.

    Args:
        rows: What `sort_rows` returned.
        curves: Curve of each run, by the row's folder.
    """
    found = []
    for row in rows:
        same = (row["label_count"], row["seeds"])
        goals = [one for one in rows if one["method"] == _GOAL and (one["label_count"], one["seeds"]) == same]
        when = {goal["title"]: find_catch_up(curves[row["folder"]], curves[goal["folder"]]) for goal in goals}
        found.append({**row, "catch_up": {title: one for title, one in when.items() if one}})
    return found


def format_table(rows: list[dict]) -> str:
    """Formats the rows of `run_comparison` as a Markdown table: a line a method, a column a label count."""
    counts = list(dict.fromkeys(row["label_count"] for row in rows))
    cells = {(row["title"], row["label_count"]): row for row in rows}
    heads = ["target test accuracy, %" if count is None else f"{count} a class, %" for count in counts]
    lines = [f"| method | {' | '.join(heads)} | seconds |", "|---" * (len(heads) + 2) + "|"]
    for title in dict.fromkeys(row["title"] for row in rows):
        own = [cells.get((title, count)) for count in counts]
        seconds = statistics.mean(row["train_seconds"] for row in own if row)
        lines.append(f"| {title} | {' | '.join(_format_cell(row) if row else '' for row in own)} | {seconds:.0f} |")
    return "\n".join(lines)


def _format_cell(row):
    spread = f" ± {100 * row['target_accuracy_std']:.1f}" if len(row["seeds"]) > 1 else ""
    found = row["differences"].get(YARDSTICKS[0])
    difference = f" ({100 * found['mean']:+.1f})" if found else ""
    return f"{100 * row['target_accuracy']:.1f}{spread}{difference}"


def format_details(rows: list[dict]) -> str:
    """Formats the rows as a Markdown table with a line for each, which holds what `format_table` leaves out."""
    titles = {row["folder"]: row["title"] for row in rows}
    heads = (
        "method",
        "labels a class",
        "accuracy, %",
        *(f"minus {name}" for name in YARDSTICKS),
        "minus the best other",
    )
    heads += ("loss", "top 5, %", "calibration error, %", "seconds", f"seconds to {_GOAL}'s accuracy")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        best = row["differences"].get("best_other")
        cells = [
            row["title"],
            str(row["label_count"] or ""),
            f"{100 * row['target_accuracy']:.1f} ± {100 * row['target_accuracy_std']:.1f}",
            *(format_difference(row["differences"].get(name)) for name in YARDSTICKS),
            format_difference(best) + (f", {titles[best['to']]}" if best else ""),
            _format(row["target_loss"], 1, ".3f"),
            _format(row["target_top5_accuracy"], 100, ".1f"),
            _format(row["target_calibration_error"], 100, ".1f"),
            f"{row['train_seconds']:.0f}",
            "; ".join(_format_catch_up(title, one) for title, one in row.get("catch_up", {}).items()),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _format_catch_up(title, found):
    share = "" if found["runs"] == 1 else f", {100 * found['runs']:.0f} % of the runs"
    return f"{found['seconds']:.1f} of {found['of_seconds']:.1f} ({title}{share})"


def _format(value, factor, style):
    return "" if value is None else f"{factor * value:{style}}"


def format_csv(results: dict[Variant, list[dict]]) -> str:
    """Returns the figures of all runs as comma-separated values, a line for each run."""
    figures = ("target_accuracy", *_MEANS, "source_accuracy", "validation_accuracy", "steps", "train_seconds")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("method", "changes", "cost_matrix", "label_count", "seed", *figures, *_SCORES))
    for variant, own in results.items():
        line = (variant.config.method.name, variant.changes, variant.cost_matrix, variant.label_count)
        for result in own:
            scores = _join_scores(result)
            writer.writerow([*line, result["seed"], *map(result.get, figures), *map(scores.get, _SCORES)])
    return text.getvalue()
