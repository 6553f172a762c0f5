"""The table of a comparison."""

import statistics

from jtln_tf.comparison.plan import Variant


def summarize(variant: Variant, results: list[dict]) -> dict:
    """Returns the row of a variant, JSON values, from the results of its runs."""
    accuracies = [result["target_accuracy"] for result in results]
    shared = [result for result in results if "namesakes" in result]
    return {
        "method": variant.config.method.name,
        "cost_matrix": variant.cost_matrix or None,
        "title": variant.title,
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


def format_table(rows: list[dict]) -> str:
    """Formats the rows of `run_comparison` as a Markdown table."""
    lines = ["| method | target test accuracy, % | seconds |", "|---|---|---|"]
    for row in rows:
        spread = f" ± {100 * row['target_accuracy_std']:.1f}" if len(row["seeds"]) > 1 else ""
        accuracy = f"{100 * row['target_accuracy']:.1f}{spread}"
        lines.append(f"| {row['title']} | {accuracy} | {row['train_seconds']:.0f} |")
    return "\n".join(lines)
