"""The page and the pictures over several comparisons. Takes values and knows no run."""

import dataclasses
import math
import statistics
import typing
from collections.abc import Mapping, Sequence

from jtln_tf.files import escape_name
from jtln_tf.report.captions import find_shown_characters, shorten_name
from jtln_tf.report.comparison_page import Gap, find_reach, format_gap, half_interval
from jtln_tf.report.elements import Element, build_page, element, paragraph, picture, section, table

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 3
_MARKERS = "osD^v<>PX*"


@dataclasses.dataclass(frozen=True, eq=False)
class PairLine:
    """What the methods reach on one pair of domains with one number of labels.

    Attributes:
        pair: Name of the pair.
        label_count: Training images of each target class; None if that was not varied.
        accuracies: Target test accuracy of each seed, in [0, 1], by the method's title.
        seconds: Mean training time by the method's title.
        gaps: `Gap` of our method to others, by what these are.
        link: Where the pair's own page is, relative to this one; None if it is gone.
    """

    pair: str
    label_count: int | None
    accuracies: Mapping[str, Sequence[float]]
    seconds: Mapping[str, float]
    gaps: Mapping[str, Gap]
    link: str | None


@dataclasses.dataclass(frozen=True, eq=False)
class Relation:
    """A score that is known before training, beside what our method then gained.

    Attributes:
        name: The score.
        yardstick: The method that the gain is the difference to.
        correlation: Spearman's rank correlation.
        p_value: Chance of a correlation at least as far from 0 among unrelated values.
        pairs: Name of the pair of each point.
        scores: Score of each point.
        gains: Gain of each point.
    """

    name: str
    yardstick: str
    correlation: float
    p_value: float
    pairs: Sequence[str]
    scores: Sequence[float]
    gains: Sequence[Gap]


def build_pairs_page(
    lines: Sequence[PairLine], ours: str, summary: Sequence[str], pictures: Mapping[str, tuple[bytes, str]]
) -> str:
    """Returns the HTML of the page over several comparisons.

    Args:
        lines: A line for each pair and number of labels.
        ours: Title of the method whose differences to others are shown; empty if there are none.
        summary: Sentences about all lines.
        pictures: Content of a PNG file and what it shows, by name.
    """
    pairs, titles = _list_names(lines)
    gaps = list(dict.fromkeys(name for line in lines for name in line.gaps))
    title = f"Methods compared on pairs of data sets ({len(titles)} on {len(pairs)})"
    heads = ["pair", "labels a class", *titles, *(f"{ours} minus {name.replace('_', ' ')}" for name in gaps)]
    rows = [[*_start_line(line), *_fill_line(line, titles), *_fill_gaps(line, gaps)] for line in lines]
    whole = _find_whole(lines, titles)
    if len(whole) > 1:
        means = [statistics.mean(statistics.mean(line.accuracies[title]) for line in whole) for title in titles]
        rows.append([f"mean of {len(whole)} lines", "", *_mark_best(means), *([""] * len(gaps))])
    return build_page(
        title,
        element("h1", title),
        section(
            "Target test accuracy, %",
            table(heads, rows, numbers=range(1, len(heads))),
            paragraph(
                "Means over the seeds; the best of a line is bold. Differences are in points, with their 95 % interval "
                "(paired t) if there are several seeds. A pair links to its own page."
            ),
        ),
        section("Over all lines", element("ul", *(element("li", text) for text in summary))) if summary else None,
        *(
            section(f"{name[0].upper()}{name[1:]}", picture(content, name), paragraph(note))
            for name, (content, note) in pictures.items()
        ),
    )


def draw_pictures(
    lines: Sequence[PairLine], ours: str, relations: Sequence[Relation]
) -> dict[str, tuple["Figure", str]]:
    """Returns pictures and what they show, by name: accuracy over labels, over seconds, gain over relatedness.

    One for which the lines do not hold enough is left out.
    """
    pictures = {}
    counted = [line for line in lines if line.label_count is not None]
    if counted:
        pictures["accuracy over labels"] = (
            _draw_over_labels(counted, ours),
            "Mean over the seeds; with several, its 95 % interval (t).",
        )
    whole = _find_whole(lines, _list_names(lines)[1])
    if whole:
        pictures["accuracy over seconds"] = (
            _draw_over_seconds(whole, ours),
            "Means over the lines that have all methods. Times are of this machine, and grow if several runs share it.",
        )
    if relations:
        pictures["gain over relatedness"] = (
            _draw_relations(relations),
            "A point is a pair with one number of labels, with the 95 % interval of its gain. The score is known "
            "before any training; in the title is Spearman's rank correlation.",
        )
    return pictures


def _start_line(line):
    return element("a", line.pair, href=line.link) if line.link else line.pair, str(line.label_count or "")


def _fill_line(line, titles):
    means = [statistics.mean(line.accuracies[title]) if title in line.accuracies else None for title in titles]
    return _mark_best(means)


def _mark_best(means) -> list[Element | str]:
    texts = ["" if mean is None else f"{100 * mean:.1f}" for mean in means]
    best = max((mean for mean in means if mean is not None), default=None)
    marked = [mean is not None and text == f"{100 * best:.1f}" for mean, text in zip(means, texts, strict=True)]
    return [element("b", text) if is_best else text for text, is_best in zip(texts, marked, strict=True)]


def _fill_gaps(line, names):
    return [format_gap(line.gaps.get(name)) for name in names]


def _style(titles, ours):
    """Returns how each method is drawn: no two alike, ours above the others."""
    return {
        title: {
            "color": "black" if title == ours else f"C{place % 10}",
            "marker": _MARKERS[(place + place // 10) % len(_MARKERS)],
            "linestyle": "-" if place < 10 or title == ours else "--",
            "linewidth": 2.4 if title == ours else 1.0,
            "zorder": 3 if title == ours else 2,
        }
        for place, title in enumerate(titles)
    }


def _draw_over_labels(lines, ours):
    pairs, titles = _list_names(lines)
    shorten, rows = _find_shortener(), math.ceil(len(pairs) / _COLUMNS)
    columns = min(_COLUMNS, len(pairs))
    figure = _make_figure(1.5 + 3.6 * columns, 3.0 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    styles = _style(titles, ours)
    for axes, pair in zip(grid, pairs, strict=False):
        own = sorted((line for line in lines if line.pair == pair), key=lambda line: line.label_count)
        for title, style in styles.items():
            shown = [line for line in own if title in line.accuracies]
            values = [line.accuracies[title] for line in shown]
            reach = [100 * half_interval(one) if len(one) > 1 else 0.0 for one in values]
            means, counts = [100 * statistics.mean(one) for one in values], [line.label_count for line in shown]
            options = {"capsize": 2, "elinewidth": 0.6, "markersize": 4, "label": shorten(title)}
            axes.errorbar(counts, means, yerr=reach, **options, **style)
        counts = [line.label_count for line in own]
        axes.set_xscale("log")
        axes.set_xticks(counts, counts)
        axes.minorticks_off()
        axes.set_title(shorten(pair), fontsize=10, parse_math=False)
        axes.grid(alpha=0.3)
    for axes in grid[len(pairs) :]:
        axes.set_axis_off()
    figure.supxlabel("training images of each target class", fontsize=10)
    figure.supylabel("target test accuracy, %", fontsize=10)
    handles, labels = grid[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, fontsize=8, loc="outside right upper")
    _show_plainly(legend)
    return figure


def _draw_over_seconds(lines, ours):
    figure, shorten = _make_figure(9.5, 4.6), _find_shortener()
    axes = figure.subplots()
    for title, style in _style(_list_names(lines)[1], ours).items():
        seconds = statistics.mean(line.seconds[title] for line in lines)
        accuracy = statistics.mean(100 * statistics.mean(line.accuracies[title]) for line in lines)
        axes.plot([seconds], [accuracy], **style | {"linestyle": ""}, label=shorten(title))
    # Methods that take no steps take no time either.
    axes.set_xscale("symlog", linthresh=1)
    axes.set(xlabel="mean training time of a run, seconds", ylabel="mean target test accuracy, %", xlim=(0, None))
    axes.grid(alpha=0.3)
    _show_plainly(axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5)))
    return figure


def _draw_relations(relations):
    columns = min(2, len(relations))
    rows = math.ceil(len(relations) / columns)
    figure = _make_figure(1.5 + 4.6 * columns, 3.3 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    pairs, shorten = list(dict.fromkeys(pair for one in relations for pair in one.pairs)), _find_shortener()
    for axes, relation in zip(grid, relations, strict=False):
        for place, pair in enumerate(pairs):
            own = [number for number, one in enumerate(relation.pairs) if one == pair]
            gains = [relation.gains[number] for number in own]
            means, scores = [100 * gap.mean for gap in gains], [relation.scores[number] for number in own]
            style = {"color": f"C{place % 10}", "fmt": _MARKERS[place // 10 % len(_MARKERS)], "label": shorten(pair)}
            axes.errorbar(scores, means, yerr=find_reach(gains), capsize=2, elinewidth=0.6, **style)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_title(f"{relation.name}: {relation.correlation:+.2f}", fontsize=10, parse_math=False)
        axes.grid(alpha=0.3)
    for axes in grid[len(relations) :]:
        axes.set_axis_off()
    figure.supylabel(f"gain over {relations[0].yardstick.replace('_', ' ')}, points", fontsize=10)
    handles, labels = grid[0].get_legend_handles_labels()
    _show_plainly(figure.legend(handles, labels, fontsize=8, loc="outside right upper"))
    return figure


def _list_names(lines):
    """Returns the names of the pairs and the titles of the methods, each once."""
    return (
        list(dict.fromkeys(line.pair for line in lines)),
        list(dict.fromkeys(title for line in lines for title in line.accuracies)),
    )


def _find_whole(lines, titles):
    """Returns the lines that have all methods."""
    return [line for line in lines if len(line.accuracies) == len(titles)]


def _find_shortener():
    """Returns a function that makes a name one that a picture has room and letters for."""
    is_shown = find_shown_characters()
    return lambda name: shorten_name(escape_name(name, is_shown))


def _make_figure(width, height):
    # Not pyplot, which would look for a screen.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _show_plainly(legend):
    for text in legend.get_texts():
        text.set_parse_math(False)
