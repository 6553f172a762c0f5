"""The tables, the pictures and the page over several pairs of data sets."""

import csv
import io
import json
import os
import pathlib
import statistics
from collections.abc import Sequence

from jtln_tf import files
from jtln_tf.comparison.differences import describe_differences, format_difference
from jtln_tf.comparison.report import REPORT_FILE, find_link, try_to_report
from jtln_tf.config import InputError
from jtln_tf.methods import DEFAULT_METHOD, YARDSTICKS
from jtln_tf.report.comparison_page import Gap, format_gap
from jtln_tf.report.elements import draw_png
from jtln_tf.report.pairs_page import PairLine, Relation, build_pairs_page, draw_pictures

KIND = "comparisons"
# A rank correlation of fewer lines says nothing.
_LEAST_RELATED = 4
# By what they show.
_PICTURES = {
    "accuracy over labels": "labels.png",
    "accuracy over seconds": "seconds.png",
    "gain over relatedness": "relatedness.png",
}
OVERVIEW_FILES = ("table.json", "table.md", "table.csv", REPORT_FILE, *_PICTURES.values())


def write_overview(output: str | os.PathLike, rows: dict[str, list[dict]]) -> None:
    """Writes `table.json`, `table.md`, `table.csv`, pictures and `report.html` over several comparisons.

    Args:
        output: Folder, which holds each comparison in a folder of its name.
        rows: Rows of each comparison's table, by its name.
    """
    output = pathlib.Path(output)
    files.mark_folder(output, KIND)
    files.write_json(output / "table.json", rows)
    files.write_whole(output / "table.md", format_overview(rows) + "\n")
    files.write_whole(output / "table.csv", _join_csv(output, rows))
    try_to_report(write_overview_report, output)


def write_overview_report(folder: str | os.PathLike, output: str | os.PathLike | None = None) -> pathlib.Path:
    """Writes the page over several comparisons and returns its path.

    Args:
        folder: Folder of all comparisons.
        output: The page; None is `report.html` in the folder, and its pictures as files beside it.

    Raises:
        InputError: If the folder holds no table that can be read.
    """
    folder = pathlib.Path(folder)
    path = pathlib.Path(output or folder / REPORT_FILE)
    try:
        rows = json.loads((folder / "table.json").read_text("utf-8"))
        lines = _find_lines(rows)
        main = _find_ours(lines)
        shown = [_show_line(key, line, main, folder, path.parent) for key, line in lines.items()]
        relations, summary = _find_relations(lines, main), _describe_all(lines, main)
    except (OSError, KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError) as error:
        raise InputError(
            f"`workdir` must hold comparisons that can be read. Received: {str(folder / 'table.json')!r} "
            f"({files.first_line(error)})."
        ) from error
    drawn = draw_pictures(shown, main or "", relations)
    pictures = {name: (draw_png(figure), note) for name, (figure, note) in drawn.items()}
    if output is None:
        for name, file in _PICTURES.items():
            if name in pictures:
                files.write_whole(folder / file, pictures[name][0])
            else:
                # It would show an earlier state of the tables.
                (folder / file).unlink(missing_ok=True)
    files.write_whole(path, build_pairs_page(shown, main or "", summary, pictures))
    return path


def format_overview(rows: dict[str, list[dict]]) -> str:
    """Formats the rows of several comparisons as Markdown: a line for each pair and label count, a column a method.

    The last columns are differences of the default method. Below stand the means over the lines that have all methods,
    and the mean differences of the default method to the others over these lines, with their 95 % interval, in which a
    line counts as one.
    """
    lines = _find_lines(rows)
    titles, main = _list_titles(lines), _find_ours(lines)
    heads = ["pair", "labels a class", *titles, *(f"minus {name}" for name in (*YARDSTICKS, "best other") if main)]
    text = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for (pair, count), line in lines.items():
        cells = [f"{100 * line[title]['target_accuracy']:.1f}" if title in line else "" for title in titles]
        if main:
            found = line[main].get("differences", {}) if main in line else {}
            cells += [format_difference(found.get(name)) for name in (*YARDSTICKS, "best_other")]
        text.append(f"| {pair} | {count or ''} | {' | '.join(cells)} |")
    whole = _find_whole(lines, titles)
    if len(whole) > 1:
        means = [f"{100 * statistics.mean(line[title]['target_accuracy'] for line in whole):.1f}" for title in titles]
        text.append(f"| mean of {len(whole)} lines | | {' | '.join(means)} |{' |' * (len(heads) - len(titles) - 2)}")
    if summary := _describe_all(lines, main):
        text += ["", *(f"- {sentence}" for sentence in summary)]
    return "\n".join(text)


def _find_lines(rows):
    """Returns the rows by title, of each pair and label count."""
    lines = {}
    for pair, own in rows.items():
        for row in own:
            lines.setdefault((pair, row["label_count"]), {})[row["title"]] = row
    return lines


def _list_titles(lines):
    return list(dict.fromkeys(title for line in lines.values() for title in line))


def _find_whole(lines, titles):
    """Returns the lines that have all methods."""
    return [line for line in lines.values() if len(line) == len(titles)]


def _find_ours(lines):
    """Returns the title of the default method, or None: as it is by default, before those with other options."""
    ours = [row for line in lines.values() for row in line.values() if row["method"] == DEFAULT_METHOD.name]
    return min(ours, key=lambda row: bool(row.get("changes")))["title"] if ours else None


def _show_line(key, line, main, folder, place):
    pair, label_count = key
    return PairLine(
        pair=pair,
        label_count=label_count,
        accuracies={title: row["target_accuracies"] for title, row in line.items()},
        seconds={title: row["train_seconds"] for title, row in line.items()},
        gaps={name: Gap(**gap) for name, gap in line[main].get("differences", {}).items()} if main in line else {},
        link=find_link(folder / pair, place),
    )


def _describe_all(lines, main):
    """Returns sentences about all lines: what the default method gains, and which score foretells it."""
    titles = _list_titles(lines)
    whole = _find_whole(lines, titles)
    gains = _describe_gains(whole, titles, main) if main and len(whole) > 1 else ()
    return [*gains, *(_describe_relation(relation, main) for relation in _find_relations(lines, main))]


def _describe_gains(lines, titles, main):
    for title in titles:
        if title != main:
            gain = describe_differences(
                [line[main]["target_accuracy"] - line[title]["target_accuracy"] for line in lines]
            )
            yield f"{main} minus {title}: {format_gap(gain)}"


def _describe_relation(relation, main):
    return (
        f"rank correlation of {relation.name} with {main} minus {relation.yardstick}: "
        f"{relation.correlation:+.2f} ({len(relation.gains)} lines, p = {relation.p_value:.2g})"
    )


def _find_relations(lines, main):
    """Returns how each score before training goes with the gain over the first yardstick."""
    from scipy import stats

    known = [
        (pair, _join_scores(line), Gap(**line[main]["differences"][YARDSTICKS[0]]))
        for (pair, _), line in lines.items()
        if main in line and YARDSTICKS[0] in line[main].get("differences", {})
    ]
    relations = []
    for name in dict.fromkeys(name for _, scores, _ in known for name in scores):
        points = [(pair, scores[name], gap) for pair, scores, gap in known if name in scores]
        pairs, scores, gains = zip(*points, strict=True)
        means = [gap.mean for gap in gains]
        if len(points) >= _LEAST_RELATED and all(len(set(values)) > 1 for values in (scores, means)):
            found = stats.spearmanr(scores, means)
            relations.append(
                Relation(name, YARDSTICKS[0], float(found.statistic), float(found.pvalue), pairs, scores, gains)
            )
    return relations


def _join_scores(line):
    return {name: score for row in line.values() for name, score in row.get("transferability", {}).items()}


def _join_csv(output: pathlib.Path, names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, name in enumerate(names):
        with open(output / name / "table.csv", encoding="utf-8", newline="") as file:
            heads, *lines = csv.reader(file)
        writer.writerows([] if number else [("pair", *heads)])
        writer.writerows((name, *line) for line in lines)
    return text.getvalue()
