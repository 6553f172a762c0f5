import json
import shlex

import numpy as np
import pytest
from absl import flags
from PIL import Image

from jtln_tf.config import DataConfig, InputError, parse_domain_spec
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.evaluation import Evaluation, Mistake
from jtln_tf.experiment.choices import explain_choices, format_command
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.experiment.run_report import read_curves, try_write_run_report, write_run_report
from jtln_tf.experiment.workdir import Run
from jtln_tf.flags import config_from_flags, define_config_flags, preset_names, preset_path
from tests.conftest import make_image_folder
from tests.experiment.runs import make_config
from tests.report.pages import PageReader

RESULT = {"target_accuracy": 0.5, "target_macro_accuracy": 0.5, "steps": 12, "train_seconds": 1.0}
COUNTS = {"target_test_images": 21, "target_validation_images": 0, "source_train_images": 48, "target_train_images": 9}


@pytest.fixture
def finished(tmp_path):
    """A run with a result, made without training, and its configuration; the images are in `data`."""
    make_image_folder(tmp_path / "data" / "source", ["s0", "s1", "s2", "s3"], 12)
    make_image_folder(tmp_path / "data" / "target", ["t0", "<b>", "t2"], 12, seed=1)
    config = make_config(tmp_path / "data", "jtln")
    run = Run(tmp_path / "run", config)
    run.claim()
    classes = {"source": ("s0", "s1", "s2", "s3"), "target": ("<b>", "t0", "t2")}
    mistakes = (Mistake(5, 0, 2, 0.9), Mistake(11, 1, 0, 0.8))
    evaluation = Evaluation(classes["target"], np.full((3, 3), 2) + np.eye(3, dtype=int), 1.0, mistakes)
    with run.begin(classes, 0):
        run.metrics.write_text(
            '{"step": 0, "run": "x"}\n{"step": 4, "loss": 1, "target_train_accuracy": 0.5}\n[1]\n{"st'
        )
        run.write_costs(CostMatrix(1 - np.eye(4, 3), *classes.values()))
        run.write_evaluation({"target": evaluation.to_json(), "source": None})
        run.write_result(RESULT | COUNTS | {"transport_agreement": 0.0})
    return run


def test_the_page_shows_the_images_that_the_network_got_wrong(finished):
    page = PageReader(write_run_report(finished.folder).read_text("utf-8"))
    described = [name for name in page.pictures if ".png" in name]
    assert len(described) == 2 and "There were no validation images" in page.text
    for name in described:
        # A mistake is called by its path; the picture is that file's.
        path = finished.folder.parent / "data" / "target" / name.strip("'").split("/target/")[1]
        shown = np.asarray(page.pictures[name][0].convert("L").resize((16, 16)), float)
        files = path.parent.parent.rglob("*.png")
        distances = {file: np.abs(np.asarray(Image.open(file), float) - shown).mean() for file in files}
        assert min(distances, key=distances.get) == path
    assert "no more clearly than unrelated ones would, so the transport was left out of training" in page.text
    # Each target class is beside its source class: three images of both.
    shown = {name: len(pictures) for name, pictures in page.pictures.items() if len(pictures) > 1}
    assert shown == dict.fromkeys(("<b>", "t0", "t2", "s0", "s1", "s2"), 3) and "(90 %)" in page.text


def test_a_page_without_images_says_why_and_a_failure_loses_nothing(finished, tmp_path, monkeypatch, caplog):
    (tmp_path / "data").rename(tmp_path / "moved")
    page = PageReader(write_run_report(finished.folder, tmp_path / "page.html").read_text("utf-8"))
    assert "The pictures are missing" in page.text and "Classes, the hardest first" in page.text
    (finished.folder / "evaluation.json").write_text('{"target": {"classes": [], "confusion": [[1]]}}')
    assert "Classes, the hardest first" not in write_run_report(finished.folder).read_text("utf-8")
    monkeypatch.setattr("jtln_tf.experiment.run_report.build_run_page", lambda facts: 1 / 0)
    assert try_write_run_report(finished.folder) is None and "could not be drawn: division by zero" in caplog.text
    with pytest.raises(InputError, match="must hold a run"):
        write_run_report(tmp_path)


def test_the_page_is_a_file_of_the_run(finished):
    write_run_report(finished.folder)
    again = Run(finished.folder, finished.config)
    again.claim(overwrite=True)
    with again.begin({"source": (), "target": ()}, 0):
        assert not (finished.folder / "report.html").exists()


def test_curves_hold_numbers_alone(finished):
    assert read_curves(finished.metrics) == {"loss": ([4], [1]), "target_train_accuracy": ([4], [0.5])}
    assert read_curves(finished.folder / "none") == {}


def configure(words):
    values = flags.FlagValues()
    define_config_flags(values)
    values(["train", *words])
    return config_from_flags(flag_values=values)


@pytest.mark.parametrize("name", preset_names())
def test_the_command_repeats_the_run(name):
    config = configure([f"--flagfile={preset_path(name)}"])
    program, verb, *words = shlex.split(format_command(config, "a b"))
    assert (program, verb, words.pop()) == ("jtln", "train", "--workdir=a b") and configure(words) == config


def test_odd_names_survive_the_command_and_reasons_follow_auto():
    data = DataConfig(source="folder:it's <b>", target=parse_domain_spec("folder:$HOME;x"), skip_bad_images=True)
    config = ExperimentConfig(data=data)
    assert configure(shlex.split(format_command(config))[2:-1]) == config
    digits = DataConfig(source="builtin:mnist5k", target="builtin:optdigits")
    counts = {"source_train_images": 500, "target_train_images": 30}
    config = ExperimentConfig(data=digits).resolve().resolve_steps({"source": 500, "target": 30})
    reasons = {what: why for what, _, why in explain_choices(config, {**RESULT, **counts}, None)}
    assert "built-in digits" in reasons["backbone"] and "auto for 500 source" in reasons["steps"]
    costs = CostMatrix(np.eye(3), "abc", "def", parameters={"neck_shrinkage": 0.7})
    choices = {what: value for what, value, _ in explain_choices(config, json.loads("{}"), costs)}
    assert choices["shrinkage of the neck"] == "0.70" and 0 <= float(choices["agreement of the classes"]) <= 1
