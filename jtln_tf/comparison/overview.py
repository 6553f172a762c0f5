"""The tables over several pairs of data sets."""

import csv
import io
import os
import pathlib
import statistics
from collections.abc import Sequence

from jtln_tf import files
from jtln_tf.comparison.differences import describe_differences, format_difference
from jtln_tf.methods import DEFAULT_METHOD, YARDSTICKS
from jtln_tf.report.comparison_page import format_gap

KIND = "comparisons"
# A rank correlation of fewer lines says nothing.
_LEAST_RELATED = 4
OVERVIEW_FILES = ("table.json", "table.md", "table.csv")


def write_overview(output: str | os.PathLike, rows: dict[str, list[dict]]) -> None:
    """Writes `table.json`, `table.md` and `table.csv` over several comparisons.

    Args:
        output: Folder, which holds each comparison in a folder of its name.
        rows: Rows of each comparison's table, by its name.
    """
    output = pathlib.Path(output)
    files.mark_folder(output, KIND)
    files.write_json(output / "table.json", rows)
    files.write_whole(output / "table.md", format_overview(rows) + "\n")
    files.write_whole(output / "table.csv", _join_csv(output, rows))


def format_overview(rows: dict[str, list[dict]]) -> str:
    """Formats the rows of several comparisons as Markdown: a line for each pair and label count, a column a method.

    The last columns are differences of the default method. Below stand the means over the lines that have all methods,
    and the mean differences of the default method to the others over these lines, with their 95 % interval, in which a
    line counts as one.
    """
    lines = _find_lines(rows)
    titles = dict.fromkeys(title for line in lines.values() for title in line)
    ours = [row for line in lines.values() for row in line.values() if row["method"] == DEFAULT_METHOD.name]
    # As it is by default, wherever it was named, before those with other options.
    main = min(ours, key=lambda row: bool(row["changes"]))["title"] if ours else None
    heads = ["pair", "labels a class", *titles, *(f"minus {name}" for name in (*YARDSTICKS, "best other") if main)]
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for (pair, count), line in lines.items():
        cells = [f"{100 * line[title]['target_accuracy']:.1f}" if title in line else "" for title in titles]
        if main:
            found = line[main]["differences"] if main in line else {}
            cells += [format_difference(found.get(name)) for name in (*YARDSTICKS, "best_other")]
        text.append(f"| {pair} | {count or ''} | {' | '.join(cells)} |")
    whole = [line for line in lines.values() if len(line) == len(titles)]
    if len(whole) > 1:
        means = [f"{100 * statistics.mean(line[title]['target_accuracy'] for line in whole):.1f}" for title in titles]
        text.append(f"| mean of {len(whole)} lines | | {' | '.join(means)} |{' |' * (len(heads) - len(titles) - 2)}")
    if main and len(whole) > 1:
        text += ["", *_describe_gains(whole, titles, main), *_describe_relations(lines.values(), main)]
    return "\n".join(text)


def _find_lines(rows):
    """Returns the rows by title, of each pair and label count."""
    lines = {}
    for pair, own in rows.items():
        for row in own:
            lines.setdefault((pair, row["label_count"]), {})[row["title"]] = row
    return lines


def _describe_gains(lines, titles, main):
    for title in titles:
        if title != main:
            gain = describe_differences(
                [line[main]["target_accuracy"] - line[title]["target_accuracy"] for line in lines]
            )
            yield f"- {main} minus {title}: {format_gap(gain)}"


def _describe_relations(lines, main):
    """Yields the rank correlation of each score before training with the gain over the first yardstick."""
    from scipy import stats

    known = [
        (_join_scores(line), line[main]["differences"][YARDSTICKS[0]]["mean"])
        for line in lines
        if _is_known(line, main)
    ]
    for name in dict.fromkeys(name for scores, _ in known for name in scores):
        pairs = [(scores[name], gain) for scores, gain in known if name in scores]
        if len(pairs) >= _LEAST_RELATED and all(len(set(values)) > 1 for values in zip(*pairs, strict=True)):
            found = stats.spearmanr(*zip(*pairs, strict=True))
            yield (
                f"- rank correlation of {name} with {main} minus {YARDSTICKS[0]}: {found.statistic:+.2f} "
                f"({len(pairs)} lines, p = {found.pvalue:.2g})"
            )


def _is_known(line, main):
    return main in line and YARDSTICKS[0] in line[main]["differences"]


def _join_scores(line):
    return {name: score for row in line.values() for name, score in row["transferability"].items()}


def _join_csv(output: pathlib.Path, names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, name in enumerate(names):
        with open(output / name / "table.csv", encoding="utf-8", newline="") as file:
            heads, *lines = csv.reader(file)
        writer.writerows([] if number else [("pair", *heads)])
        writer.writerows((name, *line) for line in lines)
    return text.getvalue()
