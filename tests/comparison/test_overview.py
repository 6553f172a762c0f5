import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from jtln_tf.comparison.overview import format_overview, write_overview_report
from jtln_tf.config import InputError
from jtln_tf.report.comparison_page import Gap
from tests.report.pages import PageReader


def make_rows(gain, scores, others=("linear_probe",)):
    rows = [{"method": name, "title": name, "target_accuracy": 0.5, "transferability": {}} for name in others]
    rows[0]["transferability"] = scores
    ours = {"method": "jtln", "title": "JTLN", "target_accuracy": 0.5 + gain, "transferability": {"agreement": gain**3}}
    gap = Gap(gain, gain - 0.01, gain + 0.01, [gain], "linear_probe")
    found = {"linear_probe": dataclasses.asdict(gap)}
    rows = [{"differences": {}, "label_count": None, "changes": None, **row} for row in rows]
    return [*rows, {"differences": found, "label_count": None, "changes": None, **ours}]


def test_scores_before_training_are_ranked_beside_the_gain():
    gains = [0.01, 0.2, 0.05, -0.03, 0.11]
    leep = np.random.default_rng(0).random(5)
    rows = {f"pair{n}": make_rows(gain, {"leep": leep[n], "same": 1.0}) for n, gain in enumerate(gains)}
    text = format_overview(rows).splitlines()
    assert text[2] == "| pair0 |  | 50.0 | 51.0 | +1.0 (+0.0 to +2.0) |  |  |"
    assert text[7].startswith("| mean of 5 lines | | 50.0 | 56.8 |")
    t = stats.t.interval(0.95, 4, np.mean(gains), stats.sem(gains))
    assert f"- JTLN minus linear_probe: +6.8 ({100 * t[0]:+.1f} to {100 * t[1]:+.1f})" in text
    expected = stats.spearmanr(leep, gains).statistic
    (line,) = [line for line in text if "leep" in line]
    assert line.startswith(f"- rank correlation of leep with JTLN minus linear_probe: {expected:+.2f} (5 lines")
    # The cube keeps the order; of a score that is the same everywhere nothing can be said.
    assert any("of agreement with JTLN minus linear_probe: +1.00" in line for line in text) and "same" not in " ".join(
        text
    )
    assert "rank correlation" not in format_overview(dict(list(rows.items())[:3]))


def test_differences_are_those_of_the_method_without_other_options_even_if_one_with_options_comes_first():
    rows = {f"pair{n}": make_rows(0.1 * n, {}) for n in range(2)}
    for own in rows.values():
        own.insert(0, {**own[-1], "title": "JTLN, epsilon=1", "changes": "epsilon=1", "target_accuracy": 0.2})
    text = format_overview(rows)
    assert "- JTLN minus JTLN, epsilon=1: +35.0" in text and "JTLN, epsilon=1 minus" not in text


@pytest.mark.parametrize("text", ["", "[]", '{"a": 3}', '{"a": [{}]}', "[" * 10**5])
def test_a_damaged_table_makes_no_page(tmp_path, text):
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(InputError, match="`workdir` must hold comparisons that can be read"):
        write_overview_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


def test_pictures_stand_beside_the_tables_and_go_with_what_they_show(tmp_path):
    rows = {f"pair{n}": make_rows(0.1 * n, {"leep": n}) for n in range(4)}
    for own in rows.values():
        for row in own:
            row |= {"target_accuracies": [row["target_accuracy"]], "train_seconds": 1.0}
    (tmp_path / "table.json").write_text(json.dumps(rows))
    write_overview_report(tmp_path)
    page = PageReader((tmp_path / "report.html").read_text("utf-8"))
    # No pair has a page of its own here, and label counts were not varied.
    assert page.links == [] and set(page.pictures) == {"accuracy over seconds", "gain over relatedness"}
    assert "rank correlation of leep with JTLN minus linear_probe: +1.00" in page.text
    shown = {"table.json", "report.html", "seconds.png", "relatedness.png"}
    assert {path.name for path in tmp_path.iterdir()} == shown
    # Of older releases.
    for own in rows.values():
        for row in own:
            del row["changes"], row["transferability"]
    (tmp_path / "table.json").write_text(json.dumps(rows))
    write_overview_report(tmp_path, tmp_path / "other.html")
    assert {path.name for path in tmp_path.iterdir()} == {*shown, "other.html"}
    write_overview_report(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*shown, "other.html"} - {"relatedness.png"}
