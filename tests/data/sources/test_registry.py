from jtln_tf.config.domain_spec import KINDS
from jtln_tf.data.sources import LISTERS


def test_the_kinds_that_are_parsed_are_those_that_are_listed():
    assert tuple(LISTERS) == KINDS
