import dataclasses

import numpy as np
import pytest
from scipy import stats

from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.report.comparison_page import Gap, Row, build_comparison_page
from jtln_tf.report.confusion import draw_confusion, find_confused
from jtln_tf.report.elements import draw_png
from jtln_tf.report.mistakes import ShownMistake
from jtln_tf.report.pairs_page import PairLine, Relation, build_pairs_page, draw_pictures
from jtln_tf.report.run_page import MatchedPair, RunFacts, build_run_page
from tests.report.pages import PageReader

# Markup, ends of elements and attributes, half a pair, a mark that turns the direction of writing, mathematics.
EVIL = ('<img src=x onerror="alert(1)">', "'\"></td></table><script>alert(1)</script>", "\udc80", "a\u202eb", "$x_{")
GRAY, PHOTO = np.full((8, 8, 1), 200, np.uint8), np.full((160, 160, 3), 90, np.uint8)


def make_facts(names=EVIL, **changes):
    count = len(names)
    confusion = np.full((count, count), 2)
    rows = [{"class": name, "images": 2 * count, "accuracy": 1 / count} for name in names]
    result = {"target_accuracy": 0.5, "target_macro_accuracy": 0.5, "steps": 9, "train_seconds": 3.2, "best_step": 2}
    values = {
        "title": names[0],
        "command": f"jtln train --source={names[1]}",
        "result": result,
        "evaluation": {"classes": rows, "confusion": confusion.tolist(), "images": 2 * count * count},
        "about": {"source": names[1]},
        "choices": [("backbone", names[0], names[1])],
        "curves": {"loss": ([1, 2], [0.5, 0.25]), "target_train_accuracy": ([1], [0.5]), "transport_loss": ([1], [-1])},
        "options": {"data": {"source": names[1]}},
        "costs": CostMatrix(np.eye(count), [f"s{name}" for name in names], names),
        "pairs": (MatchedPair(names[0], names[1], 0.0, {"source": [GRAY, None], "target": [PHOTO]}),),
        "plan": CostMatrix(np.eye(count)[::-1], [f"s{name}" for name in names], names, parameters={"source": 9}),
        "matches": (MatchedPair(names[1], names[0], 0.75, {"source": [], "target": []}),),
        "mistakes": (ShownMistake(PHOTO, names[1], names[0], names[2], 0.99), ShownMistake(None, "", "", "", 0.5)),
    }
    return RunFacts(**(values | changes))


def test_names_are_texts_whatever_they_hold_and_nothing_is_fetched():
    page = PageReader(build_run_page(make_facts()))
    assert not {"script", "link", "iframe"} & set(page.tags) and page.tags.count("title") == 1
    shown = [EVIL[0], EVIL[1], r"\udc80", r"a\u202eb", EVIL[4]]
    assert all(page.text.count(name) >= 1 for name in shown) and page.text.count(EVIL[1]) >= 6
    # Each with its description: two curves, the confusion matrix, the costs, the plan, three images.
    assert sum(map(len, page.pictures.values())) == 8 and "75%" in page.text and EVIL[1] in page.pictures
    assert page.pictures[EVIL[0]][0].size == (56, 56) and page.links == []


@pytest.mark.parametrize(
    ("changes", "words", "num_pictures"),
    [
        ({"result": {}, "evaluation": {}, "mistakes": (), "pairs": (), "costs": None}, "is not finished", 2),
        ({"curves": {}, "costs": None, "mistakes": (), "pairs": ()}, "no training steps", 1),
        ({"warnings": ("5 of the 9",), "curves": {"target_validation_accuracy": ([1], [1.0])}}, "5 of the 9", 7),
        ({"plan": None, "matches": (), "no_plan": "There is none: why"}, "There is none: why", 7),
    ],
)
def test_a_page_tells_what_there_is(changes, words, num_pictures):
    page = PageReader(build_run_page(make_facts(**changes)))
    assert words in page.text and sum(map(len, page.pictures.values())) == num_pictures


def test_a_hundred_classes_can_be_read():
    names = [f"class number {number}" for number in range(100)]
    confusion = np.diag(np.arange(100))
    confusion[3, 7] = 5
    assert find_confused(confusion, 3) == [(3, 7, 5)]
    figure = draw_confusion(confusion, names)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert max(figure.bbox.size) < 1500 and len(axes.get_yticklabels()) == 50 and "1 name in 2" in axes.get_ylabel()
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(below.y1 < above.y1 - 0.8 * above.height for above, below in zip(boxes, boxes[1:], strict=False))


def test_a_comparison_shows_labels_and_differences_by_seed():
    curves = [([1, 2], [0.1, 0.2]), ([], [])]
    gap = Gap(0.05, -0.02, 0.12, (0.1, 0.0), "linear probe")
    rows = [
        Row(title, count, (0, 1), (0.5, 0.7), gaps, (3.0, None), curves, ("a%20b/report.html", None))
        for count in (1, 5)
        for title, gaps in (
            (EVIL[1], {"linear_probe": gap, "best_other": dataclasses.replace(gap, to="joint")}),
            ("linear probe", {}),
        )
    ]
    page = PageReader(build_comparison_page(EVIL[0], "jtln compare", {"source": EVIL[1]}, rows, {}))
    assert set(page.pictures) == {
        "accuracy of each run",
        "accuracy over labels",
        "accuracy over seconds",
        "difference to linear probe",
        "difference to the best other method",
        "validation accuracy over the steps",
    }
    assert page.text.count("+5.0 (-2.0 to +12.0)") == 4
    assert page.links == ["a%20b/report.html"] * 4 and "60.0 ± 14.1 %" in page.text and "script" not in page.tags
    alone = [Row("only", None, (0,), (0.5,), {}, (None,), [([], [])], (None,))]
    page = PageReader(build_comparison_page("t", "c", {}, alone, {}))
    assert set(page.pictures) == {"accuracy of each run"} and "minus" not in page.text


def test_a_page_over_pairs_marks_the_best_of_each_line_and_shows_gains_over_relatedness():
    gap, alone = Gap(0.05, -0.02, 0.12, (0.1, 0.0), "linear probe"), Gap(0.05, None, None, (0.05,), "linear probe")
    lines = [
        PairLine(EVIL[0], 1, {EVIL[1]: (0.5, 0.7), "JTLN": (0.6, 0.61)}, {EVIL[1]: 0.0, "JTLN": 3.0}, {}, "a/b.html"),
        PairLine(EVIL[0], 5, {EVIL[1]: (0.5,), "JTLN": (0.9,)}, {EVIL[1]: 0.0, "JTLN": 3.0}, {}, "a/b.html"),
        PairLine(EVIL[4], None, {"JTLN": (0.5, 0.25)}, {"JTLN": 1.0}, {"linear_probe": gap}, None),
    ]
    relation = Relation("leep", "linear_probe", 0.5, 0.1, (EVIL[0], EVIL[4]), (0.1, 0.2), (gap, alone))
    figures = draw_pictures(lines, "JTLN", [relation])
    pictures = {name: (draw_png(figure), note) for name, (figure, note) in figures.items()}
    page = PageReader(build_pairs_page(lines, "JTLN", [EVIL[1]], pictures))
    assert set(page.pictures) == {"accuracy over labels", "accuracy over seconds", "gain over relatedness"}
    assert page.links == ["a/b.html"] * 2 and "script" not in page.tags
    assert "JTLN minus linear probe" in page.text and page.text.count("+5.0 (-2.0 to +12.0)") == 1
    # The best: 60.5 beside 60.0, 90 beside 50, 37.5 alone; 75.2 of the mean of the two whole lines.
    assert page.tags.count("b") == 4 and "mean of 2 lines" in page.text and "75.2" in page.text
    assert set(draw_pictures(lines[2:], "", [])) == {"accuracy over seconds"}
    other = dataclasses.replace(lines[0], accuracies={"JTLN": (0.5,)})
    # No line has all methods, so their means would be of different pairs.
    assert set(draw_pictures([dataclasses.replace(other, accuracies={"joint": (0.5,)}), other], "JTLN", [])) == {
        "accuracy over labels"
    }
    interval = figures["accuracy over labels"][0].axes[0].containers[1].lines[2][0].get_segments()[0][:, 1]
    expected = stats.t.interval(0.95, 1, loc=60.5, scale=stats.sem([60, 61]))
    np.testing.assert_allclose(interval, expected)
