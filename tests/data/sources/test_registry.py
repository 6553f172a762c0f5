import dataclasses

import pytest

from jtln_tf.config import DomainSpec, domain_options, parse_domain_spec
from jtln_tf.config.domain_spec import KINDS
from jtln_tf.data.sources import LISTERS


def test_the_kinds_that_are_parsed_are_those_that_are_listed():
    assert tuple(LISTERS) == KINDS


@pytest.mark.parametrize("kind", LISTERS)
def test_every_option_of_a_kind_is_parsed_as_itself(kind):
    fields = {field.name for field in dataclasses.fields(DomainSpec)}
    for option in domain_options(kind):
        assert (
            option in fields
            and not parse_domain_spec(
                f"{kind}:name?{option}=0.5" if "fraction" in option else f"{kind}:name?{option}=1"
            ).filters
        )
