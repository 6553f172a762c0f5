import csv
import dataclasses
import json
import os
import pathlib

import pytest

from jtln_tf.comparison import run as comparison
from jtln_tf.comparison.pairs import run_pairs
from jtln_tf.comparison.plan import plan_variants
from jtln_tf.comparison.report import write_comparison_report
from jtln_tf.config import DataConfig, InputError, NetworkConfig, TrainingConfig
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.experiment.workdir import Run
from jtln_tf.methods import find_method
from tests.report.pages import PageReader

DATA = DataConfig(source="builtin:mnist5k", target="builtin:optdigits")


def variants(*methods, label_counts=(), data=DATA, **training):
    network = NetworkConfig(neck="identity") if methods else NetworkConfig()
    config = {"data": data, "network": network, "training": TrainingConfig(**training)}
    configs = [ExperimentConfig(method=find_method(name)(), **config) for name in methods or ("joint", "l2_sp")]
    return plan_variants(configs, label_counts=label_counts)


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """The folders that were trained in, by a stand-in that takes no time."""
    folders = []

    def train(config, folder, *, export, workshop, devices, **modes):
        run = Run(folder, config)
        run.claim(**modes)
        if run.is_resumed and run.read_result():
            return run.read_result()
        folders.append(str(pathlib.Path(folder).relative_to(tmp_path)).removeprefix("out/"))
        accuracy = 0.5 + 0.1 * config.training.seed + 0.1 * max(0, config.data.labels_per_class - 1)
        accuracy += 0.01 * (config.method.name == "joint" and config.data.labels_per_class > 0)
        result = {"target_accuracy": accuracy, "target_macro_accuracy": 0.4, "train_seconds": 9.6, "versions": {}}
        if config.method.name == "jtln":
            result["transferability"] = {"leep": -accuracy, "logme": 0.5, "h_score": 2.0}
            result["transport_agreement"] = 0.25
        with run.begin({}, 0):
            line = {"step": 1, "target_validation_accuracy": accuracy, "train_seconds": 9.6}
            run.metrics.write_text(json.dumps(line) + "\n")
            run.write_result(result | {"seed": config.training.seed, "steps": config.training.steps})
        return run.read_result()

    monkeypatch.setattr(comparison, "run_experiment", train)
    return folders


def test_a_comparison_goes_on_where_it_was_stopped(trained, tmp_path):
    rows = comparison.run_comparison(variants(), range(2), tmp_path / "out")
    assert trained == ["joint/seed0", "joint/seed1", "l2_sp/seed0", "l2_sp/seed1"]
    assert [row["seeds"] for row in rows] == [[0, 1], [0, 1]] and rows[0]["target_accuracy"] == pytest.approx(0.55)
    assert json.loads((tmp_path / "out" / "table.json").read_text())["rows"] == rows
    line = "| joint without OT | 55.0 ± 7.1 | 10 |"
    assert (tmp_path / "out" / "table.md").read_text().splitlines()[2] == line
    assert (tmp_path / "out" / "accuracy.png").exists()
    (tmp_path / "out" / "l2_sp" / "seed0" / "result.json").unlink()
    kept = comparison.check_runs(variants(), range(2), tmp_path / "out", overwrite=False)
    assert kept == {tmp_path / "out" / one for one in ("joint/seed0", "joint/seed1", "l2_sp/seed1")}
    del trained[:]
    assert comparison.run_comparison(variants(), range(2), tmp_path / "out") == rows and trained == ["l2_sp/seed0"]


@pytest.mark.parametrize("accuracies", [[], [0.5], ["a", "b"]])
def test_a_damaged_table_has_no_page(trained, tmp_path, accuracies):
    comparison.run_comparison(variants(), range(2), tmp_path / "out")
    table = tmp_path / "out" / "table.json"
    values = json.loads(table.read_text())
    values["rows"][0]["target_accuracies"] = accuracies
    table.write_text(json.dumps(values))
    with pytest.raises(InputError, match="`workdir` must hold a comparison that can be read"):
        write_comparison_report(tmp_path / "out")


def test_label_counts_are_columns_beside_their_difference_to_the_probe(trained, tmp_path):
    rows = comparison.run_comparison(variants("linear_probe", "joint", label_counts=(3, 1)), range(2), tmp_path)
    # Runs of one method follow each other, to share what was compiled.
    assert trained[:4] == [f"3_labels/linear_probe/seed{n}" for n in (0, 1)] + [
        f"1_labels/linear_probe/seed{n}" for n in (0, 1)
    ]
    assert [(row["label_count"], row["method"]) for row in rows] == [
        (1, "linear_probe"),
        (1, "joint"),
        (3, "linear_probe"),
        (3, "joint"),
    ]
    assert (tmp_path / "table.md").read_text().splitlines()[:4] == [
        "| method | 1 a class, % | 3 a class, % | seconds |",
        "|---|---|---|---|",
        "| linear probe | 55.0 ± 7.1 | 75.0 ± 7.1 | 10 |",
        "| joint without OT | 56.0 ± 7.1 (+1.0) | 76.0 ± 7.1 (+1.0) | 10 |",
    ]
    details = (tmp_path / "table.md").read_text().splitlines()[8]
    expected = (
        "| joint without OT | 1 | 56.0 ± 7.1 | +1.0 (+1.0 to +1.0) | | +1.0 (+1.0 to +1.0), linear probe | | | | 10 | |"
    )
    assert details.replace("  ", " ") == expected
    lines = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert len(lines) == 8 and {line["label_count"] for line in lines} == {"1", "3"}
    assert sum(float(line["target_accuracy"]) for line in lines) == pytest.approx(8 * 0.655)
    assert (tmp_path / "accuracy.png").exists()
    page = PageReader((tmp_path / "report.html").read_text("utf-8"))
    assert len(page.links) == 8 and all((tmp_path / link).is_file() for link in page.links)
    assert "accuracy over labels" in page.pictures and "--label_counts=1,3" in page.text
    assert not (tmp_path / "1_labels/joint/seed0/checkpoints").exists()
    assert (tmp_path / "1_labels/joint/seed1/checkpoints").exists()


def test_several_pairs_have_tables_of_their_own_and_one_of_all(trained, tmp_path):
    pairs = {name: variants("linear_probe", "joint", "jtln", "consecutive") for name in ("b", "a")}
    rows = run_pairs(pairs, range(2), tmp_path / "out")
    reached = {"runs": 1.0, "steps": 1, "seconds": 9.6, "of_seconds": 9.6}
    assert rows["b"][1]["catch_up"] == {"consecutive (source, then target)": reached}
    assert list(rows) == ["b", "a"] and trained[0] == "b/linear_probe/seed0" and len(trained) == 16
    lines = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| b", "| a", "| mean of 2 lines"]
    assert "- JTLN minus joint without OT: +0.0 (+0.0 to +0.0)" in lines
    table = list(csv.DictReader((tmp_path / "out" / "table.csv").read_text().splitlines()))
    assert len(table) == 16 and table[0]["pair"] == "b" and table[-1]["method"] == "consecutive"
    scores = [[line[name] for name in ("leep", "logme", "h_score", "agreement")] for line in table]
    assert scores[0] == [""] * 4 and scores[5] == ["-0.6", "0.5", "2.0", "0.25"]
    assert rows["b"][2]["transferability"] == {"leep": -0.55, "logme": 0.5, "h_score": 2.0, "agreement": 0.25}
    page = PageReader((tmp_path / "out" / "report.html").read_text("utf-8"))
    assert page.links == ["b/report.html", "a/report.html"] and set(page.pictures) == {"accuracy over seconds"}
    del trained[:]
    assert run_pairs(pairs, range(2), tmp_path / "out") == rows and trained == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "table.csv").write_text("mine")
    with pytest.raises(InputError, match="`output` must be a new folder or that of a comparison.*table.csv"):
        run_pairs(pairs, range(2), tmp_path / "mine")
    with pytest.raises(InputError, match="`pairs` must have other names .*Received: 'table.csv'"):
        run_pairs({"table.csv": pairs["a"]}, range(2), tmp_path / "other")


def test_a_method_can_run_with_other_options_beside_itself(trained, tmp_path):
    config = ExperimentConfig(data=DATA, method=find_method("joint")())
    other = dataclasses.replace(config, method=dataclasses.replace(config.method, source_weight=0.5))
    rows = comparison.run_comparison(plan_variants([config, other], changes=("", "source_weight=0.5")), [0], tmp_path)
    assert trained == ["joint/seed0", "joint-source_weight-0.5/seed0"]
    assert [row["title"] for row in rows] == ["joint without OT", "joint without OT, source_weight=0.5"]
    assert "joint,joint?source_weight=0.5" in (tmp_path / "report.html").read_text()


def test_overwrite_replaces_only_runs_of_another_configuration(trained, tmp_path):
    comparison.run_comparison(variants(steps=9), [0], tmp_path)
    comparison.run_comparison(variants(steps=7), [1], tmp_path)
    assert comparison.run_comparison(variants(), [1], tmp_path)[0]["steps"] == 7
    del trained[:]
    with pytest.raises(InputError, match="another configuration.*steps: 7 -> 9"):
        comparison.run_comparison(variants(steps=9), range(2), tmp_path)
    assert trained == []
    comparison.run_comparison(variants(steps=9), range(2), tmp_path, overwrite=True)
    assert trained == ["joint/seed1", "l2_sp/seed1"]


@pytest.mark.parametrize("name", ["table.md", "accuracy.png", "jtln_tf.json"])
def test_files_of_the_user_with_names_of_ours_are_left(trained, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="`output` must be a new folder or that of a comparison"):
        comparison.run_comparison(variants(), [0], tmp_path, overwrite=True)
    assert trained == [] and (tmp_path / name).read_text() == "mine" and os.listdir(tmp_path) == [name]
