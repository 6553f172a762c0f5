"""Each option of each section and method: what is wrong with a value is said in one form."""

import dataclasses
import typing

import numpy as np
import pytest

from jtln_tf.config import DataConfig, InputError, NetworkConfig, TrainingConfig, options_of
from jtln_tf.costs.config import CostConfig
from jtln_tf.methods import METHODS

SECTIONS = (DataConfig, NetworkConfig, TrainingConfig, CostConfig, *METHODS.values())
FIELDS = {section.prefix + field.name: (section, field) for section in SECTIONS for field in options_of(section)}
BOUNDS = {"minimum": ("at least", 0, -1), "maximum": ("at most", 0, 1), "above": ("greater than", 1, 0)}
WRONG = {str: [3], bool: [1], int: [2.0, True], float: ["much", True, float("nan"), float("inf")]}


@pytest.mark.parametrize("name", FIELDS)
def test_an_option_has_help_and_limits(name):
    section, field = FIELDS[name]
    annotation, limits = typing.get_type_hints(section)[field.name], field.metadata
    is_tuple = typing.get_origin(annotation) is tuple
    kind = typing.get_args(annotation)[0] if is_tuple else annotation

    def make(value):
        return section(**{field.name: (value,) if is_tuple else value})

    assert limits["help"].endswith(".")
    for value in (b"bytes", [1], *WRONG.get(kind, [3])):
        with pytest.raises(InputError, match=rf"`{name}` must be .* Received: "):
            make(value)
    if limits["choices"]:
        with pytest.raises(InputError, match=f"`{name}` must be one of {', '.join(limits['choices'])}"):
            make("Nothing like it")
    step = 1 if kind is int else 1e-6
    for limit, (words, good, bad) in BOUNDS.items():
        if limits[limit] is not None:
            make(limits[limit] + good * step)
            with pytest.raises(InputError, match=f"`{name}` must be {words} {limits[limit]}. Received: "):
                make(limits[limit] + bad * step)


def test_numbers_of_numpy_are_numbers_and_a_section_is_frozen():
    config = TrainingConfig(steps=np.int64(7), step_factor=np.float32(0.5), momentum=0)
    assert config == TrainingConfig(steps=7, step_factor=0.5, momentum=0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.steps = 8
