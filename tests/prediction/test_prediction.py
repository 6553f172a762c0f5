"""Predictions and evaluations with a run that was trained here, by real processes where exit statuses matter."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jtln_tf.config import InputError
from jtln_tf.data.reading.foreign_formats import FOREIGN_REASONS, name_foreign
from jtln_tf.experiment.assembly import load_trained
from jtln_tf.experiment.run import run_experiment
from jtln_tf.experiment.workdir import Run
from jtln_tf.prediction import classifier as classifier_module
from jtln_tf.prediction.classifier import load_classifier
from jtln_tf.prediction.inputs import ImageFile, read_image_file
from jtln_tf.prediction.new_images import evaluate_new
from jtln_tf.prediction.writers import Writer, open_output
from jtln_tf.trainer.checkpoint_file import open_arrays, write_arrays
from tests.conftest import make_image_folder
from tests.experiment.runs import make_config

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 55, 3), np.uint8))
# Content and a part of the reason, by name.
BAD = {
    "cut.jpg": (lambda: encode("JPEG")[:-300], "truncated"),
    "cut.png": (lambda: encode("PNG")[:-300], "truncated"),
    "cut.tif": (lambda: encode("TIFF")[:-300], "truncated"),
    "deep.tiff": (lambda: encode("TIFF", mode="F"), "samples of 32 bits, whose range is not known; save it"),
    "apple.heic": (
        lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
        "HEIC images are not read; save it as JPEG",
    ),
    "new.avif": (
        lambda: b"\0\0\0\x20ftypavif\0\0\0\0avifmif1" + bytes(99),
        "AVIF images are not read; save it as JPEG",
    ),
    "film.jpg": (lambda: b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video"),
    "report.jpg": (lambda: b"%PDF-1.7\n", "PDF"),
    "gone.jpg": (lambda: b"<!DOCTYPE html><title>404</title>", "web page"),
    "lfs.jpg": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "empty.png": (lambda: b"", "empty"),
    "words.jpg": (lambda: b"no image", "an image must be"),
}


def encode(kind, mode="RGB"):
    buffer = io.BytesIO()
    PHOTO.convert("L").convert(mode).save(buffer, kind) if mode == "F" else PHOTO.save(buffer, kind)
    return buffer.getvalue()


def content(folder):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def run(bars, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "seed[1]"
    run_experiment(make_config(bars), folder)
    return Run.open(folder)


@pytest.fixture(scope="module")
def expected(run, bars):
    """Probabilities of the network for one image of each target class."""
    network, _ = load_trained(run)
    images = [np.asarray(Image.open(bars / "target" / name / "000.png")) for name in ("t0", "t1", "t2")]
    return network(np.stack(images)[..., None].astype(np.float32), training=False)["target"].numpy()


def predict(classifier, paths):
    return classifier.classify([read_image_file(str(path)) for path in paths], "target")


def test_a_run_and_its_export_answer_alike(run, bars, expected, tmp_path, monkeypatch):
    paths = [bars / "target" / name / "000.png" for name in ("t0", "t1", "t2")]
    shutil.copytree(run.folder, tmp_path / "moved")
    # As TensorFlow Serving does, the largest version is taken.
    (tmp_path / "moved" / "export" / "1").rename(tmp_path / "moved" / "12")
    shutil.rmtree(tmp_path / "moved" / "export")
    (tmp_path / "served" / "2").mkdir(parents=True)
    (tmp_path / "moved" / "12").rename(tmp_path / "served" / "12")
    for model in (tmp_path / "served", tmp_path / "moved"):
        probabilities, reasons = predict(load_classifier(model), paths)
        assert reasons == ["", "", ""]
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    # The export is taken, without building the network, as long as it has the weights of the checkpoint.
    monkeypatch.setattr(classifier_module, "load_network", lambda run: pytest.fail("the network was built"))
    np.testing.assert_allclose(predict(load_classifier(run.folder), paths)[0], expected, atol=1e-5)
    with pytest.raises(InputError, match="`model` must be an exported network or the folder of a run"):
        load_classifier(bars)


def test_an_older_export_of_a_run_is_not_taken(run, bars, expected, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.npz"
    with open_arrays(last) as arrays:
        changed = {name: -arrays[name] if name.startswith("network/") else arrays[name] for name in arrays}
    with open(last, "w+b") as file:
        write_arrays(file, changed)
    found, _ = predict(load_classifier(tmp_path / "run"), [bars / "target" / "t0" / "000.png"])
    assert np.abs(found - expected[:1]).max() > 1e-3
    # Nor is a damaged one.
    os.truncate(tmp_path / "run" / "export" / "1" / "saved_model.pb", 100)
    again, _ = predict(load_classifier(tmp_path / "run"), [bars / "target" / "t0" / "000.png"])
    np.testing.assert_allclose(again, found, atol=1e-5)


def test_every_kind_of_bad_file_is_named_and_costs_no_other(run, tmp_path):
    classifier = load_classifier(run.export / "1")
    (tmp_path / "good.tif").write_bytes(encode("TIFF"))
    for name, (make, _) in BAD.items():
        (tmp_path / name).write_bytes(make())
    names = ["good.tif", *BAD, "good.tif"]
    files = [read_image_file(str(tmp_path / name)) for name in names]
    # Training names formats in Python, an export in its graph.
    rest = [b"\xff\x0a", b"<svg>", b"PK\3\4", b"8BPS", b"\0\0\0\x0cjP  \r\n", b"RIFF\0\0\0\0WAVE"]
    files += [ImageFile("x", content) for content in rest]
    probabilities, reasons = classifier.classify(files, "target")
    assert reasons[0] == reasons[len(BAD) + 1] == "" and probabilities[0].sum() == pytest.approx(1, abs=1e-5)
    for (name, (_, words)), reason in zip(BAD.items(), reasons[1:], strict=False):
        assert words in reason, f"{name}: {reason}"
    named = [name_foreign(file.content) for file in files]
    assert [reason if reason in FOREIGN_REASONS else "" for reason in reasons] == named and sum(map(bool, named)) == 12


def test_tables_and_lines_hold_the_likeliest_classes(tmp_path):
    with open_output(str(tmp_path / "a.csv")) as file:
        writer = Writer(file, "csv", ["x, y", "é", "z"], 2)
        writer.write("a\udcff.png", np.array([0.25, 0.7, 0.05]))
        writer.write_error("b.png", "it is empty")
        assert not (tmp_path / "a.csv").exists()
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["path", "class_1", "probability_1", "class_2", "probability_2"],
        ["a\\udcff.png", "é", "0.7", "x, y", "0.25"],
    ]
    lines = io.StringIO()
    writer = Writer(lines, "jsonl", ["x", "é"], 9)
    writer.write("a.png", np.array([0.25, 0.75]))
    writer.write_error("b.png", "it is empty")
    assert [json.loads(line) for line in lines.getvalue().splitlines()] == [
        {"image": "a.png", "classes": [{"class": "é", "probability": 0.75}, {"class": "x", "probability": 0.25}]},
        {"image": "b.png", "error": "it is empty"},
    ]


def test_new_photos_are_evaluated_as_the_run_would_see_them(run, bars, tmp_path):
    new = make_image_folder(tmp_path / "new", ["t1", "t2"], 6, seed=9)
    (new / "unused").mkdir()
    # Two that were trained on, under other names; of 12 images a class, the run draws 3.
    _, domains = load_trained(run)
    trained = bars / "target"
    digests = {bytes(image) for image in np.asarray(domains["target"].train.images)}
    seen = [path for path in sorted(trained.rglob("*.png")) if np.asarray(Image.open(path)).tobytes() in digests]
    kept = [path for path in seen if path.parent.name == "t1"][:2]
    for number, path in enumerate(kept):
        shutil.copy(path, new / "t1" / f"copy{number}.png")
    (new / "t2" / "cut.jpg").write_bytes(encode("JPEG")[:-300])
    before = content(run.folder)
    found = evaluate_new(run, str(new))
    network, _ = load_trained(run)
    paths = sorted(new.rglob("*.png"))
    images = np.stack([np.asarray(Image.open(path)) for path in paths])[..., None]
    predicted = network(images.astype(np.float32), training=False)["target"].numpy().argmax(axis=1)
    truth = np.array([{"t1": 1, "t2": 2}[path.parent.name] for path in paths])
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (truth, predicted), 1)
    np.testing.assert_array_equal(found.result.confusion, confusion)
    assert found.trained_on == {"source": 0, "target": 2} and found.result.class_names == ("t0", "t1", "t2")
    assert [*found.not_read] == ["new/t2/cut.jpg"] and "truncated" in found.not_read["new/t2/cut.jpg"]
    assert len(found.names) == len(paths) == 14
    assert content(run.folder) == before
    with pytest.raises(
        InputError, match="`target` must have classes that the run knows, such as .*'s0', 's1', 's2', 's3' in"
    ):
        evaluate_new(run, f"folder:{bars}/source")
    assert evaluate_new(run, f"folder:{bars}/source?crop_bottom=1", head="source").result.num_images == 48


@pytest.mark.slow
def test_programs_go_on_behind_bad_images_and_exit_with_3(run, bars, repository, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(bars / "target", photos / "many")
    for name, (make, _) in BAD.items():
        (photos / name).write_bytes(make())
    (photos / "notes.txt").write_text("no photo")
    good = sorted(str(path) for path in photos.rglob("*/*/*.png"))
    assert len(good) == 36
    command = [sys.executable, "-m", "jtln_tf"]
    options = {
        "cwd": repository,
        "capture_output": True,
        "text": True,
        "env": {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    }
    words = ["predict", f"--model={run.folder}", "--top_k=2", "-", str(photos)]
    told = subprocess.run([*command, *words], input="\0".join(good[:3]), **options)
    assert told.returncode == 3 and "Traceback" not in told.stderr, told.stderr
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [line["image"] for line in lines if "classes" in line] == good[:3] + good
    assert {os.path.basename(line["image"]) for line in lines if "error" in line} == {*BAD}
    assert all(len(line["classes"]) == 2 for line in lines if "classes" in line)
    shown = told.stderr.splitlines()
    assert shown[-1] == f"{39 + len(BAD)} images, {len(BAD)} not read"
    assert sum(line.startswith("warning: not read: ") for line in shown) == len(BAD)
    assert sum("left out 1 files that are not images" in line for line in shown) == 1

    output = tmp_path / "new" / "classes.csv"
    words = ["predict", f"--model={run.export}", f"{photos}/many/*/00[01].png", f"--output={output}"]
    told = subprocess.run([*command, *words], **options)
    assert told.returncode == 0 and not told.stdout, told.stderr
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [path for path in good if path.endswith(("000.png", "001.png"))]

    (photos / "many" / "t0" / "cut.jpg").write_bytes(encode("JPEG")[:-300])
    words = ["evaluate", f"--workdir={run.folder}", f"--target={photos}/many", "--json", "--quiet", "--log_format=json"]
    told = subprocess.run([*command, *words], **options)
    table = json.loads(told.stdout)
    messages = [json.loads(line)["message"] for line in told.stderr.splitlines()]
    assert told.returncode == 3 and any("cut.jpg': it is truncated" in message for message in messages), told.stderr
    assert np.sum(table["confusion"]) == table["images"] == 36 and table["trained_on"]["target"] == 9
    assert "9 of these images are also training images of the run's target." in messages
