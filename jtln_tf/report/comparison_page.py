"""The page of a comparison. Takes values and knows no run."""

import dataclasses
import itertools
import json
import math
import statistics
import typing
from collections.abc import Mapping, Sequence

from jtln_tf.report.curves import Curve
from jtln_tf.report.elements import Element, build_page, element, paragraph, plot, section, table
from jtln_tf.report.run_page import format_share

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Gap:
    """How far a row is above another one, in accuracy.

    Attributes:
        mean: Mean over the seeds.
        low: Lower end of the 95 % interval of the mean; None with one seed.
        high: Upper end of that interval; None with one seed.
        values: Difference of the runs of each seed.
        to: The other row: its title on a page, its folder in a table.
    """

    mean: float
    low: float | None
    high: float | None
    values: Sequence[float]
    to: str


def half_interval(values: Sequence[float]) -> float:
    """Returns half the width of the 95 % interval of a mean of at least two values, by Student's t."""
    from scipy import stats

    return stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


def find_reach(gaps: Sequence[Gap]) -> list[list[float]]:
    """Returns how far the intervals of gaps reach below and above the means, in points; 0 for one without interval."""
    return [
        [0.0 if gap.low is None else 100 * (gap.mean - gap.low) for gap in gaps],
        [0.0 if gap.high is None else 100 * (gap.high - gap.mean) for gap in gaps],
    ]


def format_gap(gap: Gap | None) -> str:
    """Returns a difference in points, with its interval if there is one; an empty text for None."""
    if gap is None:
        return ""
    interval = "" if gap.low is None else f" ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"
    return f"{100 * gap.mean:+.1f}{interval}"


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One line of a comparison's table, with its runs.

    Attributes:
        title: Method, and cost matrix if the line has its own.
        label_count: Training images of each target class; None if the comparison has only one number of them.
        seeds: Seed of each run.
        accuracies: Target test accuracy of each run, in [0, 1].
        gaps: `Gap` to other rows with the same labels, by what these are: `linear_probe`, `consecutive`, `best_other`.
        seconds: Training time of each run; None if it is not known.
        curves: Target validation accuracies over the steps of each run.
        links: Where the files of each run are, relative to the page; None if they are gone.
    """

    title: str
    label_count: int | None
    seeds: Sequence[int]
    accuracies: Sequence[float]
    gaps: Mapping[str, Gap]
    seconds: Sequence[float | None]
    curves: Sequence[Curve]
    links: Sequence[str | None]

    @property
    def name(self) -> str:
        """Title with the number of labels."""
        return self.title if self.label_count is None else f"{self.title}, {self.label_count} a class"


_TABLE_NOTE = (
    "A seed links to its run. Differences are means over the seeds, in points, with their 95 % interval (paired t); "
    "both runs of a seed have the same labels."
)


def build_comparison_page(
    title: str, command: str, about: dict[str, str], rows: Sequence[Row], options: dict[str, dict]
) -> str:
    """Returns the HTML of the page of a comparison; `options` are those of each line, by its folder."""
    counts = sorted({row.label_count for row in rows if row.label_count is not None})
    titles = list(dict.fromkeys(row.title for row in rows))
    curves = [row for row in rows if any(steps for steps, _ in row.curves)]
    largest = [row for row in curves if row.label_count == max((one.label_count or 0 for one in curves), default=0)]
    shown = largest or curves
    compared = list(dict.fromkeys(name for row in rows for name in row.gaps))
    pictures = [
        _draw("accuracy of each run", _draw_accuracies, rows, titles),
        _draw("accuracy over labels", _draw_over_labels, rows, titles) if len(counts) > 1 else None,
        _draw("accuracy over seconds", _draw_over_seconds, rows, titles) if any(map(_list_seconds, rows)) else None,
        *(
            _draw(f"difference to {_gap_title(name, rows)}", _draw_gaps, _with_gap(rows, name), titles)
            for name in compared
        ),
        _draw("validation accuracy over the steps", _draw_over_steps, shown, titles) if shown else None,
    ]
    return build_page(
        title,
        element("h1", title),
        section("Table", _build_table(rows, compared), paragraph(_TABLE_NOTE)),
        section(
            "What was compared",
            table((), about.items()),
            paragraph("This command repeats it:"),
            element("pre", command),
        ),
        *filter(None, pictures),
        section(
            "All options",
            element(
                "details",
                element("summary", "show them"),
                element("pre", json.dumps(options, indent=2, ensure_ascii=False)),
            ),
        ),
    )


def _with_gap(rows, name):
    """Returns the rows that have a gap of a name, with that one alone."""
    return [dataclasses.replace(row, gaps={name: row.gaps[name]}) for row in rows if name in row.gaps]


def _gap_title(name, rows):
    titles = {row.gaps[name].to for row in rows if name in row.gaps}
    return titles.pop() if name != "best_other" and len(titles) == 1 else "the best other method"


def _build_table(rows, compared):
    has_counts = any(row.label_count is not None for row in rows)
    heads = {
        "method": True,
        "labels a class": has_counts,
        "target test accuracy": True,
        **{f"minus {_gap_title(name, rows)}": True for name in compared},
        "seconds": True,
        "each seed": True,
    }
    lines = []
    for row in rows:
        spread = f" ± {100 * statistics.stdev(row.accuracies):.1f}" if len(row.accuracies) > 1 else ""
        seconds = _list_seconds(row)
        lines.append(
            [
                row.title,
                str(row.label_count or ""),
                f"{format_share(statistics.mean(row.accuracies))[:-2]}{spread} %",
                *(format_gap(row.gaps.get(name)) for name in compared),
                f"{statistics.mean(seconds):.0f}" if seconds else "",
                _list_seeds(row),
            ]
        )
    kept = list(heads.values())
    lines = [list(itertools.compress(line, kept)) for line in lines]
    return table(list(itertools.compress(heads, kept)), lines, numbers=range(1, sum(kept) - 1))


def _list_seconds(row):
    return [seconds for seconds in row.seconds if seconds is not None]


def _list_seeds(row) -> Element:
    parts = []
    for seed, accuracy, link in zip(row.seeds, row.accuracies, row.links, strict=True):
        text = f"{seed}: {100 * accuracy:.1f}"
        parts += [element("a", text, href=link) if link else text, "  "]
    return element("span", *parts)


def _draw(title, draw, rows, titles) -> Element:
    # Not pyplot, which would look for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 1.6 + 0.42 * max(5, len(rows) if draw in _BY_ROW else 6)), layout="constrained")
    axes = figure.subplots()
    note = draw(axes, rows, {name: f"C{place % 10}" for place, name in enumerate(titles)})
    axes.grid(alpha=0.3)
    for text in [*axes.get_yticklabels(), *(axes.get_legend().get_texts() if axes.get_legend() else [])]:
        text.set_parse_math(False)
    return section(f"{title[0].upper()}{title[1:]}", plot(figure, title), paragraph(note))


def _draw_accuracies(axes, rows, colors):
    for place, row in enumerate(rows):
        values = [100 * accuracy for accuracy in row.accuracies]
        axes.plot(values, [place] * len(values), "o", color=colors[row.title], alpha=0.6)
        axes.plot([statistics.mean(values)], [place], "|", color=colors[row.title], markersize=24)
    _name_rows(axes, rows)
    axes.set(xlabel="target test accuracy, %")
    return "A dot is a run, a bar the mean."


def _draw_over_labels(axes, rows, colors):
    for title, color in colors.items():
        own = [row for row in rows if row.title == title and row.label_count is not None]
        means = [100 * statistics.mean(row.accuracies) for row in own]
        spreads = [100 * statistics.stdev(row.accuracies) if len(row.accuracies) > 1 else 0.0 for row in own]
        counts = [row.label_count for row in own]
        axes.errorbar(counts, means, yerr=spreads, marker="o", capsize=3, color=color, label=title)
    ticks = sorted({row.label_count for row in rows if row.label_count is not None})
    axes.set_xscale("log")
    axes.set_xticks(ticks, ticks)
    axes.minorticks_off()
    axes.set(xlabel="training images of each target class", ylabel="target test accuracy, %")
    _add_legend(axes)
    return "Mean and standard deviation over the seeds."


def _draw_over_seconds(axes, rows, colors):
    for title, color in colors.items():
        pairs = [
            (seconds, 100 * accuracy)
            for row in rows
            if row.title == title
            for seconds, accuracy in zip(row.seconds, row.accuracies, strict=True)
            if seconds is not None
        ]
        axes.plot(*zip(*pairs, strict=True), "o", color=color, alpha=0.7, label=title) if pairs else None
    axes.set(xlabel="training time of a run, seconds", ylabel="target test accuracy, %")
    _add_legend(axes)
    return "Each dot is a run. Times are of this machine, and grow if several runs share it."


def _draw_gaps(axes, rows, colors):
    for place, row in enumerate(rows):
        (gap,) = row.gaps.values()
        values = [100 * one for one in gap.values]
        axes.plot(values, [place] * len(values), "o", color=colors[row.title], alpha=0.6)
        axes.errorbar(
            [100 * gap.mean],
            [place],
            xerr=find_reach([gap]),
            fmt="|",
            color=colors[row.title],
            markersize=16,
            capsize=3,
        )
    axes.axvline(0, color="black", linewidth=0.8)
    _name_rows(axes, rows)
    axes.set(xlabel="difference of the target test accuracy, points")
    return "A dot is a seed: both runs had the same labels. The bar is the mean with its 95 % interval."


def _draw_over_steps(axes, rows, colors):
    for row in rows:
        for number, (steps, accuracies) in enumerate(row.curves):
            percent = [100 * accuracy for accuracy in accuracies]
            axes.plot(steps, percent, color=colors[row.title], alpha=0.7, label=None if number else row.name)
    axes.set(xlabel="step", ylabel="target validation accuracy, %")
    _add_legend(axes)
    return "One line a seed."


_BY_ROW = (_draw_accuracies, _draw_gaps)


def _name_rows(axes, rows):
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)


def _add_legend(axes: "Figure") -> None:
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
