"""The tables, the pictures and the page over several pairs of data sets."""

import csv
import io
import json
import logging
import os
import pathlib
import statistics
import urllib.parse
from collections.abc import Sequence

from jtln_tf import files
from jtln_tf.comparison.differences import describe_differences, format_difference
from jtln_tf.comparison.report import REPORT_FILE
from jtln_tf.config import InputError
from jtln_tf.methods import DEFAULT_METHOD, YARDSTICKS
from jtln_tf.report.comparison_page import Gap, format_gap
from jtln_tf.report.pairs_page import PairLine, Relation, build_pairs_page, draw_pictures

_LOG = logging.getLogger("jtln_tf")
KIND = "comparisons"
# A rank correlation of fewer lines says nothing.
_LEAST_RELATED = 4
_DOTS_PER_INCH = 110
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
    try:
        write_overview_report(output)
    except Exception as error:
        _LOG.warning("the tables are written, but their report could not be drawn: %s", files.first_line(error))


def write_overview_report(folder: str | os.PathLike, output: str | os.PathLike | None = None) -> pathlib.Path:
    """Writes the page over several comparisons, and its pictures beside the tables; returns the page's path.

    Args:
        folder: Folder of all comparisons.
        output: The page; None is `report.html` in the folder.

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
        pictures = draw_pictures(shown, main or "", _find_relations(lines, main))
        page = build_pairs_page(shown, main or "", _describe_all(lines, main), pictures)
    except (OSError, KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError) as error:
        raise InputError(
            f"`workdir` must hold comparisons that can be read. Received: {str(folder / 'table.json')!r} "
            f"({files.first_line(error)})."
        ) from error
    for name, (figure, _) in pictures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
        files.write_whole(folder / _PICTURES[name], buffer.getvalue())
    files.write_whole(path, page)
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
            found = line[main]["differences"] if main in line else {}
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
    return min(ours, key=lambda row: bool(row["changes"]))["title"] if ours else None


def _show_line(key, line, main, folder, place):
    pair, label_count = key
    return PairLine(
        pair=pair,
        label_count=label_count,
        accuracies={title: row["target_accuracies"] for title, row in line.items()},
        seconds={title: row["train_seconds"] for title, row in line.items()},
        gaps={name: Gap(**gap) for name, gap in line[main]["differences"].items()} if main in line else {},
        link=urllib.parse.quote(os.path.relpath(folder / pair / REPORT_FILE, place).encode("utf-8", "surrogateescape")),
    )


def _describe_all(lines, main):
    """Returns sentences about all lines: what the default method gains, and which score says so before."""
    titles = _list_titles(lines)
    whole = _find_whole(lines, titles)
    if not main or len(whole) < 2:
        return []
    relations = [_describe_relation(relation, main) for relation in _find_relations(lines, main)]
    return [*_describe_gains(whole, titles, main), *relations]


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
        if main in line and YARDSTICKS[0] in line[main]["differences"]
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
