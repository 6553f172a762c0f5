"""One declaration an option: its default, its help and its limits, read by the validation and by the flags alike."""

import dataclasses
import math
import numbers
import typing

from jtln_tf.config.errors import InputError


def option(default, help, *, choices=None, minimum=None, maximum=None, above=None):
    """Declares a field of a configuration dataclass.

    Args:
        default: Value when nothing is given; its type must fit the field's annotation.
        help: What the option does, for `--help` and the docs.
        choices: Allowed values of a text option, or None.
        minimum: Smallest allowed number, or None.
        maximum: Largest allowed number, or None.
        above: Number that the value must exceed, or None.

    Returns:
        A `dataclasses.field` that carries the limits in its metadata.
    """
    limits = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum, "above": above}
    return dataclasses.field(default=default, metadata=limits)


def validate_options(section):
    """Checks every field of a configuration dataclass against its type and limits.

    Raises:
        InputError: On the first value that does not fit; the message names the option.
    """
    types = typing.get_type_hints(type(section))
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        _check_type(field.name, value, types[field.name])
        _check_limits(field.name, value, field.metadata)


def section_from_dict(section_type, values):
    """Builds a configuration section from JSON values; unknown names are refused and the known ones listed.

    Raises:
        InputError: If `values` is no mapping, has unknown names, or a value does not fit.
    """
    if not isinstance(values, dict):
        raise InputError(f"`{section_type.__name__}` must be a JSON object. Received: {values!r}.")
    known = [field.name for field in dataclasses.fields(section_type)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError(
            f"`{section_type.__name__}` must only hold the options {', '.join(known)}. Received: {', '.join(unknown)}."
        )
    # JSON has no tuples.
    return section_type(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def _check_type(name, value, annotation):
    expected = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
    if typing.get_origin(annotation) is tuple:
        element_type = typing.get_args(annotation)[0]
        if not isinstance(value, tuple):
            raise InputError(f"`{name}` must be a tuple, each entry {expected[element_type]}. Received: {value!r}.")
        for element in value:
            _check_type(name, element, element_type)
        return
    accepted = {str: str, bool: bool, int: numbers.Integral, float: numbers.Real}[annotation]
    is_bool_as_number = isinstance(value, bool) and annotation is not bool
    if not isinstance(value, accepted) or is_bool_as_number:
        raise InputError(f"`{name}` must be {expected[annotation]}. Received: {value!r}.")
    if annotation is float and not math.isfinite(value):
        raise InputError(f"`{name}` must be a finite number. Received: {value!r}.")


def _check_limits(name, value, limits):
    for element in value if isinstance(value, tuple) else (value,):
        if limits["choices"] and element not in limits["choices"]:
            raise InputError(f"`{name}` must be one of {', '.join(limits['choices'])}. Received: {element!r}.")
        if limits["minimum"] is not None and element < limits["minimum"]:
            raise InputError(f"`{name}` must be at least {limits['minimum']}. Received: {element}.")
        if limits["maximum"] is not None and element > limits["maximum"]:
            raise InputError(f"`{name}` must be at most {limits['maximum']}. Received: {element}.")
        if limits["above"] is not None and element <= limits["above"]:
            raise InputError(f"`{name}` must be greater than {limits['above']}. Received: {element}.")
