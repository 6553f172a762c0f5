"""Shared fixtures: tiny domains and networks that train in seconds."""

import os
import pathlib
import shutil
import subprocess

# Start-up notes of TensorFlow say nothing of the tests.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

# Two logical CPUs, before TensorFlow starts: tests of replicas run over both, all others on the first.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


@pytest.fixture(scope="session")
def two_cpus():
    """A mirrored strategy over two logical CPUs; one for all tests, because its collective operations are numbered."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def make_image_folder(root, class_names, images_per_class, *, side=16, seed=0, mode="L"):
    """Writes noisy images whose left bar tells the class: learnable, and different in every file."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(class_names):
        folder = root / name
        folder.mkdir(parents=True)
        for index in range(images_per_class):
            pixels = rng.integers(0, 60, (side, side), np.uint8)
            pixels[:, label * 3 : label * 3 + 3] = 230
            Image.fromarray(pixels).convert(mode).save(folder / f"{index:03}.png")
    return root


@pytest.fixture(scope="session")
def bars(tmp_path_factory):
    """Folder with `source/` (4 classes, 12 images each) and `target/` (3 classes, 12 images each)."""
    root = tmp_path_factory.mktemp("bars")
    make_image_folder(root / "source", ["s0", "s1", "s2", "s3"], 12)
    make_image_folder(root / "target", ["t0", "t1", "t2"], 12, seed=1)
    return root


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("a file system can only be mounted by root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
