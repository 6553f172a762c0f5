import pathlib
import re

import pytest

from benchmarks.summary import (
    find_score,
    format_accuracies,
    format_changes,
    format_lines,
    format_methods,
    format_relations,
    list_gaps,
    read_lines,
)

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def test_published_differences_are_those_of_the_published_runs():
    lines, page = read_lines(str(DOCS / "results_frozen.csv")), (DOCS / "results.md").read_text()
    published = page[page.index("| pair | labels a class | JTLN - probe |") :].replace("**", "").splitlines()
    published = [line.rsplit(" |", 2)[0] for line in published]
    rows = format_lines(lines).splitlines()[2:]
    assert len(rows) == 34 and not [row for row in rows if row.removesuffix(" |") not in published]
    methods = [row.split(" | ", 1)[1] for row in format_methods(lines).splitlines()[2:]]
    assert len(methods) == 14 and not [row for row in methods if f" | {row}\n" not in page]
    relations = format_relations(lines).splitlines()[2:]
    assert len(relations) == 4 and all(f"\n{relation}\n" in page for relation in relations)


@pytest.mark.parametrize(
    "name", ["frozen", "digits", "omniglot", "choices", "full", "tuned", "digits_tuned", "omniglot_tuned"]
)
def test_published_accuracies_are_those_of_the_published_runs(name):
    page = re.sub(r"\*\*| ± [\d.]+", "", (DOCS / "results.md").read_text())
    rows = format_accuracies(read_lines(str(DOCS / f"results_{name}.csv"))).splitlines()[2:]
    cells = [row.strip("| ").split("| ")[1:] for row in rows]
    if name == "frozen":
        # There a row is a line of the table, and class means alone have their figures elsewhere.
        cells = [list(column) for column in zip(*cells[:-1], strict=True)]
    else:
        # The mean is not in all pages.
        cells = [row[:-1] for row in cells]
    assert len(cells) > 5
    assert not [row for row in cells if f"| {' | '.join(cell.strip() for cell in row)} |" not in page]


@pytest.mark.parametrize(
    ("name", "default"), [("tuned", "frozen"), ("digits_tuned", "digits"), ("omniglot_tuned", "omniglot")]
)
def test_published_gains_of_tuning_are_those_of_the_published_runs(name, default):
    page = (DOCS / "results.md").read_text().replace("**", "")
    tuned, defaults = (read_lines(str(DOCS / f"results_{one}.csv")) for one in (name, default))
    gains = [row.split(" | ", 1)[1] for row in format_changes(tuned, defaults).splitlines()[2:]]
    assert len(gains) == 11 and not [gain for gain in gains if f" | {gain}\n" not in page]


def test_gains_of_tuning_are_paired_by_seed_and_averaged_over_lines():
    def line(*accuracies):
        return {"joint": [{"target_accuracy": str(one)} for one in accuracies]}

    tuned, defaults = (
        {("a", "1"): line(*one), ("b", "1"): line(*other)}
        for one, other in (((0.5, 0.7), (0.5, 0.5)), ((0.3, 0.6), (0.3, 0.2)))
    )
    assert format_changes(tuned, defaults).splitlines()[2] == "| joint | 55.0 | 35.0 | +20.0 (+20.0 to +20.0) |"


def test_gaps_are_paired_by_seed_and_averaged_over_lines():
    def line(*accuracies):
        return [{"target_accuracy": str(one)} for one in accuracies]

    lines = [{"jtln": line(0.5, 0.75), "joint": line(0.25, 0.75)}, {"jtln": line(1, 0), "joint": line(0.5, 0.5)}]
    assert list_gaps(lines, "joint") == [0.375, -0.25]


def test_accuracies_are_means_over_seeds_and_then_over_lines():
    def runs(*accuracies):
        return [{"target_accuracy": str(one)} for one in accuracies]

    lines = {
        ("a", "1"): {"jtln": runs(0.5, 0.7), "joint": runs(0.2, 0.2)},
        ("b", "3"): {"jtln": runs(1), "joint": runs(0)},
    }
    rows = format_accuracies(lines).splitlines()
    assert rows[0] == "| method | a, 1 | b, 3 | mean |"
    assert rows[2:] == ["| jtln | 60.0 | 100.0 | 80.0 |", "| joint | 20.0 | 0.0 | 10.0 |"]


def test_scores_are_ranked_beside_the_gains():
    def line(gain, score):
        scores = {"agreement": "", "leep": str(-score), "logme": str(score**2), "h_score": str(abs(score - 2))}
        return {
            "linear_probe": [{"target_accuracy": "0.5"}] * 2,
            "nearest_mean": [{"target_accuracy": "0.5", **scores}] * 2,
            "joint": [{"target_accuracy": "0.5"}] * 2,
            "jtln": [{"target_accuracy": str(0.5 + gain), "agreement": str(score + one)} for one in (0, 1)],
        }

    told = (("a", 0.1, 1), ("b", 0.2, 3), ("c", 0.3, 4), ("d", 0.4, 5))
    lines = {(name, "1"): line(gain, score) for name, gain, score in told}
    # What is told of JTLN comes first.
    other = lines["b", "1"]["nearest_mean"] + [{"target_accuracy": "0.5", "agreement": "9"}]
    assert find_score({"jtln?cost_matrix=text": other, **lines["b", "1"]}, "agreement") == 3.5
    assert find_score(lines["b", "1"], "agreement") == 3.5 and find_score(lines["b", "1"], "none") is None
    rows = format_relations(lines).splitlines()[2:]
    expected = ["| agreement | +1.00 | +1.00 |", "| leep | -1.00 | -1.00 |", "| logme | +1.00 | +1.00 |"]
    assert rows == [*expected, "| h_score | +0.95 | +0.95 |"]
    del lines["a", "1"]["linear_probe"]
    assert format_relations(lines).splitlines()[2] == "| agreement | +1.00 |"
    del lines["a", "1"]
    assert not format_relations(lines)
