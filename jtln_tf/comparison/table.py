"""The table of a comparison."""

import statistics

from jtln_tf.comparison.plan import Variant
from jtln_tf.methods import METHODS


def summarize(variant: Variant, results: list[dict]) -> dict:
    """Returns the row of a variant, JSON values, from the results of its runs."""
    accuracies = [result["target_accuracy"] for result in results]
    shared = [result for result in results if "namesakes" in result]
    return {
        "method": variant.config.method.name,
        "cost_matrix": variant.cost_matrix or None,
        "label_count": variant.label_count,
        "title": variant.title,
        "folder": variant.folder,
        "target_accuracy": statistics.mean(accuracies),
        "target_accuracy_std": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "target_accuracies": accuracies,
        "target_macro_accuracy": statistics.mean(result["target_macro_accuracy"] for result in results),
        "train_seconds": statistics.mean(result["train_seconds"] for result in results),
        "namesakes_nearest": [result["namesakes_nearest"] for result in shared] or None,
        "seeds": [result["seed"] for result in results],
        "steps": results[0]["steps"],
        "versions": results[0]["versions"],
    }


def sort_rows(rows: list[dict]) -> list[dict]:
    """Returns the rows by label count, and adds to each its mean difference to the linear probe with the same labels.

    The difference is that of runs with the same seed, and so with the same labels; it is None without a probe.
    """
    probes = {row["label_count"]: row["target_accuracies"] for row in rows if METHODS[row["method"]].is_yardstick}
    rows = sorted(rows, key=lambda row: row["label_count"] or 0)
    return [{**row, "minus_probe": _mean_difference(row, probes.get(row["label_count"]))} for row in rows]


def _mean_difference(row, others):
    pairs = None if others is None else zip(row["target_accuracies"], others, strict=True)
    return pairs and statistics.mean(one - other for one, other in pairs)


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
    is_compared = row["minus_probe"] is not None and not METHODS[row["method"]].is_yardstick
    difference = f" ({100 * row['minus_probe']:+.1f})" if is_compared else ""
    return f"{100 * row['target_accuracy']:.1f}{spread}{difference}"
