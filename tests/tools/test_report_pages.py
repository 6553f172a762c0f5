"""The pages and TensorBoard as a person sees them: written by the programs, opened in a browser."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse

import numpy as np
import pytest
from PIL import Image

from jtln_tf.comparison.overview import write_overview
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.experiment.run import run_experiment
from jtln_tf.experiment.run_report import write_run_report
from tests.experiment.runs import make_config
from tests.report.pages import PageReader

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
TINY = ["--source=builtin:mnist5k?per_class=8", "--target=builtin:optdigits?per_class=2", "--channels=1", "--steps=4"]
PATIENCE = 180
# What the browser made of each picture, and whether anything reaches over the right side.
MEASURE = """return {
    pictures: [...document.images].map(one => [one.complete, one.naturalWidth, one.clientWidth, one.clientHeight]),
    links: [...document.links].map(one => one.href),
    excess: document.documentElement.scrollWidth - window.innerWidth,
    title: document.title}"""
# TensorBoard's texts stand in shadow trees, and those of one of its tabs in a frame.
TEXTS = """const texts = [];
function walk(node) {
    if (node.nodeType === 3) texts.push(node.textContent.trim());
    if (node.shadowRoot) walk(node.shadowRoot);
    if (node.tagName === "IFRAME" && node.contentDocument) walk(node.contentDocument.body);
    node.childNodes.forEach(walk);
}
walk(document.body);
return texts"""


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed, so no page was opened")
    if not BROWSER or not DRIVER:
        pytest.skip("there is no Chromium with its driver, so no page was opened")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1180,1400"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(PATIENCE)
    yield driver
    driver.quit()


def assert_is_clean(browser, *places):
    """Checks that nothing was an error since the last call, and that all requests went to these places."""
    assert [one for one in browser.get_log("browser") if one["level"] == "SEVERE"] == []
    events = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]
    sent = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    assert sent and [url[:200] for url in sent if not url.startswith((*places, "data:", "blob:"))] == []


def assert_can_be_read(browser, page, picture, *, least=3):
    content = PageReader(page.read_text("utf-8"))
    browser.get(page.as_uri())
    found = browser.execute_script(MEASURE)
    assert_is_clean(browser, page.as_uri())
    assert found["excess"] <= 0 and len(found["pictures"]) == sum(map(len, content.pictures.values())) >= least
    assert all(is_complete and min(sizes) > 0 for is_complete, *sizes in found["pictures"])
    assert all(pathlib.Path(urllib.parse.unquote(urllib.parse.urlsplit(one).path)).is_file() for one in found["links"])
    assert browser.save_screenshot(str(picture))
    with Image.open(picture) as image:
        assert image.width == 1180 and np.asarray(image.convert("L")).std() > 5
    return content, found


@pytest.mark.slow
def test_pages_of_a_run_and_of_a_comparison_open_in_a_browser(repository, tmp_path, browser):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    for words in (["train", *TINY, "--noexport", f"--workdir={tmp_path}/run"],) + (
        ["compare", *TINY, "--methods=joint", "--seeds=2", "--jobs=1", f"--output={tmp_path}/compared"],
        ["report", f"--workdir={tmp_path}/compared/joint/seed1"],
        ["report", f"--workdir={tmp_path}/compared"],
    ):
        command = [sys.executable, "-m", "jtln_tf", *words]
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for name, links in (("run", 0), ("compared", 2), ("compared/joint/seed1", 0)):
        content, found = assert_can_be_read(browser, tmp_path / name / "report.html", tmp_path / "page.png")
        assert "This command repeats" in content.text and "builtin:optdigits" in found["title"]
        assert len(found["links"]) == links
    rows = json.loads((tmp_path / "compared" / "table.json").read_text("utf-8"))["rows"]
    write_overview(tmp_path, {"compared": [{**row, "label_count": 2} for row in rows]})
    content, found = assert_can_be_read(browser, tmp_path / "report.html", tmp_path / "page.png", least=2)
    assert "(1 on 1)" in found["title"] and len(found["links"]) == 1


@pytest.fixture
def charted(bars, tmp_path, monkeypatch):
    """The folder of a run with class costs, drawn at its end as if it had taken long."""
    monkeypatch.setattr("jtln_tf.experiment.charts._LEAST_SECONDS", 0)
    monkeypatch.setattr("jtln_tf.experiment.charts._SHARE", 1)
    CostMatrix(1 - np.eye(4, 3), ("s0", "s1", "s2", "s3"), ("t0", "t1", "t2")).save(tmp_path / "costs.npz")
    options = {"transport_gate": "none"}
    config = make_config(bars, "jtln", cost=(str(tmp_path / "costs.npz"), 0), options=options)
    run_experiment(config, tmp_path / "run", export=False)
    return tmp_path / "run"


@pytest.fixture
def tensorboard(charted):
    """Address of a TensorBoard that shows the run."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", charted, "--host", "127.0.0.1", "--port"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*map(str, command), str(port)], **quiet) as process:
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as one:
                if not one.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
        process.terminate()


@pytest.mark.slow
def test_a_run_is_seen_in_tensorboard_by_groups_pictures_options_and_features(browser, charted, tensorboard, tmp_path):
    content, _ = assert_can_be_read(browser, write_run_report(charted), tmp_path / "page.png")
    assert "mean transport plan: rows are source classes" in content.pictures
    pictures = ["accuracy/confusion_target_validation", "transport/cost_matrix", "transport/mean_plan"]
    for tab, words in (
        ("timeseries", ["accuracy", "data", "loss", "lr", "throughput", "transport"]),
        ("images&tagFilter=.", [*pictures, "data/batch_source", "data/batch_target"]),
        ("text", ["configuration", "data"]),
        ("hparams", ["transport_gradient", "head_learning_rate", "jtln"]),
        ("projector", ["1 tensor found", "features"]),
    ):
        # A page of its own: another fragment alone would not load it.
        browser.get("about:blank")
        browser.get(f"{tensorboard}#{tab}")
        deadline, missing = time.monotonic() + PATIENCE, words
        while missing and time.monotonic() < deadline:
            time.sleep(0.5)
            shown = browser.execute_script(TEXTS)
            missing = [word for word in words if word not in shown]
        assert not missing, (tab, missing)
        assert_is_clean(browser, tensorboard, "about:blank")
