import inspect

import pytest

from jtln_tf.config import KINDS
from jtln_tf.data.sources import find_lister


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_lister(kind):
    assert list(inspect.signature(find_lister(kind)).parameters) == ["spec", "data_root", "cache_dir"]
