"""Images that vanish or are damaged after their domain was loaded without a cache."""

import dataclasses
import pathlib
import shutil

import pytest
import tensorflow as tf
from tests.test_experiment import make_config

import jtln_tf as jt
from jtln_tf.config import RunStoppedError
from jtln_tf.data import list_domain, write_records
from jtln_tf.experiment import run_experiment, tell_lost_images


@pytest.fixture
def folder(bars, tmp_path):
    return shutil.copytree(bars / "target", tmp_path / "images")


def load(spec):
    return jt.load_domain(spec, image_size=16, channels=1, cache="none")


def read_all(domain):
    with tell_lost_images(domain):
        for _ in domain.train.dataset(4):
            pass


def test_an_image_that_vanished_is_named(folder):
    domain = load(f"folder:{folder}")
    read_all(domain)
    path = pathlib.Path(domain.train.images[7])
    path.unlink()
    with pytest.raises(RunStoppedError, match=rf"^Every image must stay readable .*{path}', which has gone\.$"):
        read_all(domain)


def test_an_image_that_was_cut_is_named(folder):
    domain = load(f"folder:{folder}")
    path = pathlib.Path(domain.train.images[7])
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(RunStoppedError, match=rf"^Every image must stay readable .*{path}' \(.+\)\.$"):
        read_all(domain)


def test_a_shard_that_was_cut_is_named(folder, tmp_path):
    write_records(list_domain(f"folder:{folder}"), tmp_path / "records", images_per_shard=12)
    domain = load(f"records:{tmp_path / 'records'}")
    # A file that is open already goes on being what it was.
    domain.train.reader._readers.clear()
    for path in (tmp_path / "records").glob("*.array_record*"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunStoppedError, match=r"^Every image must stay readable .*A shard must be whole.*records/"):
        read_all(domain)


def test_another_error_passes_as_it_is(folder):
    domain = load(f"folder:{folder}")
    with pytest.raises(tf.errors.InvalidArgumentError, match="of the program"), tell_lost_images(domain):
        raise tf.errors.InvalidArgumentError(None, None, "of the program")


def test_a_run_stops_with_one_line(bars, tmp_path, monkeypatch):
    shutil.copytree(bars, tmp_path / "data")
    config = make_config(tmp_path / "data", method="target_only")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, cache="none"))

    def lose(source, target):
        for path in target.train.images:
            pathlib.Path(path).unlink()
        return {}

    monkeypatch.setattr("jtln_tf.experiment.run.count_leaks", lose)
    with pytest.raises(RunStoppedError, match="Every image must stay readable .* which has gone"):
        run_experiment(config, tmp_path / "run")
