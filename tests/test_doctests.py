"""The examples of everything that users import."""

import doctest

import pytest

import jtln_tf as jt


@pytest.mark.parametrize("name", jt.__all__)
def test_every_public_name_has_an_example_that_runs(name):
    tests = doctest.DocTestFinder(recurse=False).find(getattr(jt, name), name, globs={})
    examples = [test for test in tests if test.examples]
    assert examples, f"{name} must have an example."
    for test in examples:
        assert doctest.DocTestRunner().run(test).failed == 0
