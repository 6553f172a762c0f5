"""The checks that TensorFlow Datasets has for a builder, on small copies of the published layouts."""

import pathlib
import shutil
import tempfile

import pytest
import tensorflow_datasets as tfds

pytest.importorskip("dill", reason="tensorflow_datasets.testing imports dill")

from jtln_tf.data.sources.builders import FgvcAircraft, Office31
from tests.data.sources.builders.test_builders import (
    AIRCRAFT_IMAGES,
    OFFICE_IMAGES,
    published_numbers,
    write_aircraft,
    write_office,
)

__all__ = ["published_numbers"]


class BuilderContract(tfds.testing.DatasetBuilderTestCase):
    """Writes the data into a temporary folder."""

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.EXAMPLE_DIR)
        cls.write(pathlib.Path(cls.EXAMPLE_DIR))
        super().setUpClass()


class FgvcAircraftTest(BuilderContract):
    DATASET_CLASS = FgvcAircraft
    SPLITS = AIRCRAFT_IMAGES

    @classmethod
    def write(cls, folder):
        write_aircraft(folder / "fgvc-aircraft-2013b")


class Office31AmazonTest(BuilderContract):
    DATASET_CLASS = Office31
    BUILDER_CONFIG_NAMES_TO_TEST = ["amazon"]
    SPLITS = {"train": 31 * OFFICE_IMAGES["amazon"]}

    @classmethod
    def write(cls, folder):
        write_office(folder / "office31")


class Office31WebcamTest(Office31AmazonTest):
    BUILDER_CONFIG_NAMES_TO_TEST = ["webcam"]
    SPLITS = {"train": 31 * OFFICE_IMAGES["webcam"]}


# The base class has no data.
del BuilderContract
