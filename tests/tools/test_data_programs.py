"""`jtln describe` and `jtln prepare` as a user meets them."""

import os
import re
import shutil

import pytest
from PIL import Image

from tests.conftest import make_image_folder
from tests.tools.test_programs import assert_refused, run, succeed


@pytest.mark.slow
def test_describe_data_prints_and_draws_what_a_run_would_use(repository, tmp_path, bars):
    shutil.copytree(bars, tmp_path / "bars")
    (tmp_path / "bars" / "source" / "s3" / "009.png").write_bytes(b"no image")
    flags = ["--domain=folder:source?per_class=2", f"--data_root={tmp_path / 'bars'}", "--against=folder:target"]
    shown = succeed(repository, "describe", *flags, f"--output={tmp_path / 'new' / 'sheet.png'}")
    assert shown.startswith(
        "Domain        folder:source?per_class=2\nImages        25: train 8, validation 6, test 11\n"
    )
    assert re.search(r"\n  source/s3/009.png \((train|test|validation)\): an image must be a JPEG, PNG, WebP", shown)
    assert "\nShared        no images also in folder:target\n" in shown
    assert shown.endswith(f"\nPicture       {tmp_path / 'new' / 'sheet.png'}\n")
    with Image.open(tmp_path / "new" / "sheet.png") as image:
        assert image.format == "PNG"


@pytest.mark.slow
def test_prepare_data_writes_whole_or_not_at_all(repository, tmp_path, small_disk):
    make_image_folder(tmp_path / "photos" / "train", ["a", "b", "c"], 7, side=300, mode="RGB")
    make_image_folder(tmp_path / "photos" / "test", ["a", "b", "c"], 5, side=300, mode="RGB")
    flags = [f"--domain=folder:{tmp_path}/photos", "--images_per_shard=5"]
    shown = succeed(repository, "prepare", *flags, f"--output={tmp_path}/out")
    assert "36 images, 3 classes, test, train" in shown
    assert_refused(run(repository, "prepare", *flags, f"--output={small_disk}/out"))
    left = [os.path.relpath(path, small_disk) for path in small_disk.rglob("*") if path.is_file()]
    assert left == [".out.prepare_data/lock"]
