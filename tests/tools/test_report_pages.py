"""The pages as a person sees them: written by the programs, opened in a browser."""

import html
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.report.pages import PageReader

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TINY = ["--source=builtin:mnist5k?per_class=8", "--target=builtin:optdigits?per_class=2", "--channels=1", "--steps=4"]
# What the browser made of each picture, and whether anything reaches over the right side.
MEASURE = """<script>window.onload = () => {
const pictures = [...document.images].map(one => [one.complete, one.naturalWidth, one.clientWidth, one.clientHeight]);
const width = document.documentElement.scrollWidth - window.innerWidth;
document.body.innerHTML = "<pre id=found></pre>";
document.getElementById("found").textContent = JSON.stringify({pictures, width, title: document.title});
}</script></body>"""


def browse(page, *arguments):
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1180,1400", *arguments]
    return subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=300, check=True).stdout


@pytest.mark.slow
def test_pages_of_a_run_and_of_a_comparison_open_in_a_browser(repository, tmp_path):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    for words in (["train", *TINY, "--noexport", f"--workdir={tmp_path}/run"],) + (
        ["compare", *TINY, "--methods=joint", "--seeds=2", "--jobs=1", f"--output={tmp_path}/compared"],
        ["report", f"--workdir={tmp_path}/compared/joint/seed1"],
        ["report", f"--workdir={tmp_path}/compared"],
    ):
        command = [sys.executable, "-m", "jtln_tf", *words]
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    pages = [tmp_path / name / "report.html" for name in ("run", "compared", "compared/joint/seed1")]
    read = [PageReader(page.read_text("utf-8")) for page in pages]
    assert read[1].links == ["joint/seed0/result.json", "joint/seed1/report.html"]
    for page, content in zip(pages, read, strict=True):
        assert all((page.parent / link).is_file() for link in content.links)
        assert "This command repeats" in content.text and sum(map(len, content.pictures.values())) >= 3
    if BROWSER is None:
        pytest.skip("the pages were written, but there is no Chromium to open them")
    for page, content in zip(pages, read, strict=True):
        measured = tmp_path / "measured.html"
        measured.write_text(page.read_text("utf-8").replace("</body>", MEASURE), "utf-8")
        found = re.search(r'<pre id="found">(.*?)</pre>', browse(measured, "--dump-dom"), re.DOTALL)[1]
        found = json.loads(html.unescape(found))
        assert "builtin:optdigits" in found["title"] and found["width"] <= 0
        assert len(found["pictures"]) == sum(map(len, content.pictures.values()))
        assert all(is_complete and min(sizes) > 0 for is_complete, *sizes in found["pictures"])
        browse(page, f"--screenshot={tmp_path}/page.png")
        with Image.open(tmp_path / "page.png") as image:
            assert image.size == (1180, 1400) and np.asarray(image.convert("L")).std() > 5
