"""Images that vanish or are damaged after their domain was loaded without a cache."""

import pathlib
import shutil

import pytest

from jtln_tf.config import RunStoppedError
from jtln_tf.data import list_domain, load_domain, write_records
from jtln_tf.data.lost_images import tell_lost_images


@pytest.fixture
def folder(bars, tmp_path):
    return shutil.copytree(bars / "target", tmp_path / "images")


def load(spec):
    return load_domain(spec, image_size=16, channels=1, cache="none")


def read_all(domain):
    with tell_lost_images(domain):
        for _ in domain.train.batches(4):
            pass


def test_an_image_that_was_cut_or_vanished_is_named(folder):
    domain = load(f"folder:{folder}")
    read_all(domain)
    path = pathlib.Path(domain.train.images[7])
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(RunStoppedError, match=rf"^Every image must stay readable .*{path}' \(.+\)\.$"):
        read_all(domain)
    path.unlink()
    with pytest.raises(RunStoppedError, match=rf"^Every image must stay readable .*{path}', which has gone\.$"):
        read_all(domain)


def test_a_shard_that_was_cut_is_named(folder, tmp_path):
    write_records(list_domain(f"folder:{folder}"), tmp_path / "records", images_per_shard=12)
    domain = load(f"records:{tmp_path / 'records'}")
    # A file that is open already stays readable.
    domain.train.images.reader._shards.clear()
    for path in (tmp_path / "records").glob("*.array_record*"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunStoppedError, match=r"^Every image must stay readable .*A shard must be whole.*records/"):
        read_all(domain)
