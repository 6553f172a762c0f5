"""Each option of each section and method: what is wrong with a value is said in one form."""

import dataclasses

import numpy as np
import pytest

from jtln_tf.config import DataConfig, InputError, NetworkConfig, TrainingConfig, options_of
from jtln_tf.costs.config import CostConfig
from jtln_tf.methods import METHODS

SECTIONS = (DataConfig, NetworkConfig, TrainingConfig, CostConfig, *METHODS.values())
FIELDS = {(section.prefix + field.name): (section, field) for section in SECTIONS for field in options_of(section)}
WRONG = {"str": 3, "bool": 1, "int": 2.0, "float": "much"}


def make(section, field, value):
    return section(**{field.name: (value,) if isinstance(field.default, tuple) else value})


def kind_of(field):
    if field.metadata["parse"]:
        return "parsed"
    element = (field.default or ("int",))[0] if isinstance(field.default, tuple) else field.default
    return "int" if element == "int" else type(element).__name__


@pytest.mark.parametrize("name", FIELDS)
def test_a_default_fits_and_is_described(name):
    section, field = FIELDS[name]
    assert section().to_values() == section.from_values(section().to_values()).to_values()
    assert field.metadata["help"].endswith(".")


@pytest.mark.parametrize("name", FIELDS)
def test_a_value_of_another_type_is_refused(name):
    section, field = FIELDS[name]
    for value in (None, b"bytes", [1], WRONG.get(kind_of(field), 3)):
        if value is not None or kind_of(field) != "parsed":
            with pytest.raises(InputError, match=rf"`{name}` must be .* Received: "):
                make(section, field, value)
    if kind_of(field) in ("int", "float"):
        with pytest.raises(InputError, match=f"`{name}` must be "):
            make(section, field, True)
    if kind_of(field) == "float":
        for value in (float("nan"), float("inf")):
            with pytest.raises(InputError, match=f"`{name}` must be a finite number"):
                make(section, field, value)


LIMITS = {"minimum": ("at least", 0, -1), "maximum": ("at most", 0, 1), "above": ("greater than", 1, 0)}


@pytest.mark.parametrize("name", FIELDS)
def test_limits(name):
    section, field = FIELDS[name]
    if field.metadata["choices"]:
        with pytest.raises(InputError, match=f"`{name}` must be one of {', '.join(field.metadata['choices'])}"):
            make(section, field, "Nothing like it")
    step = 1 if kind_of(field) == "int" else 1e-6
    for limit, (words, good, bad) in LIMITS.items():
        bound = field.metadata[limit]
        if bound is not None:
            make(section, field, bound + good * step)
            with pytest.raises(InputError, match=f"`{name}` must be {words} {bound}. Received: "):
                make(section, field, bound + bad * step)


def test_numbers_of_numpy_are_numbers_and_a_section_is_frozen():
    config = TrainingConfig(steps=np.int64(7), step_factor=np.float32(0.5), momentum=0)
    assert config == TrainingConfig(steps=7, step_factor=0.5, momentum=0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.steps = 8
