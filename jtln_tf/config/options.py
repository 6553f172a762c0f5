"""One declaration per option: its default, help and limits. Validation, flags and JSON all follow from it."""

import dataclasses
import math
import numbers
import operator
import typing
from collections.abc import Callable

from jtln_tf.config.errors import InputError

_TYPES = {
    str: (str, "a text"),
    bool: (bool, "true or false"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
}
_BOUNDS = {
    "minimum": (operator.ge, "at least"),
    "maximum": (operator.le, "at most"),
    "above": (operator.gt, "greater than"),
}


def option(
    default: object,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    tuned: tuple[float, float] | None = None,
    parse: Callable[[str, str], object] | None = None,
) -> typing.Any:
    """Declares a field of a configuration dataclass, with its limits in the metadata.

    `choices` limits a text; `minimum` and `maximum` (both allowed) and `above` (itself not allowed) limit a number.
    `tuned` is the range of a positive number in which `jtln tune` looks for a good value. `parse` turns a text and the
    option's name into the value that the field holds, whose `text` JSON keeps.
    """
    limits = {"choices": choices, "minimum": minimum, "maximum": maximum, "above": above}
    return dataclasses.field(default=default, metadata={"help": help, "tuned": tuned, "parse": parse, **limits})


class Section:
    """Base of the configuration dataclasses: checks every option and parses texts when an instance is made.

    Attributes:
        prefix: What stands before the name of each option in flags and messages.
    """

    prefix: typing.ClassVar[str] = ""

    def __post_init__(self) -> None:
        types = typing.get_type_hints(type(self))
        for field in options_of(type(self)):
            name, value = self.prefix + field.name, getattr(self, field.name)
            if field.metadata["parse"]:
                if isinstance(value, str):
                    object.__setattr__(self, field.name, field.metadata["parse"](value, name))
                elif not isinstance(value, types[field.name]):
                    raise InputError(f"`{name}` must be a text. Received: {value!r}.")
                continue
            _check_type(name, value, types[field.name])
            _check_limits(name, value, field.metadata)

    def to_values(self) -> dict[str, object]:
        """Returns the options as JSON values; a parsed one becomes its text."""
        values = {field.name: getattr(self, field.name) for field in options_of(type(self))}
        return {name: "" if value is None else getattr(value, "text", value) for name, value in values.items()}

    @classmethod
    def from_values(cls, values: object) -> typing.Self:
        """Builds a section from what `to_values` returned.

        Raises:
            InputError: If `values` is no mapping, has unknown names, or a value does not fit.
        """
        if not isinstance(values, dict):
            raise InputError(f"`{cls.__name__}` must be a JSON object. Received: {values!r}.")
        known = [field.name for field in options_of(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InputError(
                f"`{cls.__name__}` must only hold the options {', '.join(known)}. Received: {', '.join(unknown)}."
            )
        # JSON has no tuples.
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def options_of(section_type: type) -> list[dataclasses.Field]:
    """Returns the fields of a dataclass that `option` declared."""
    return [field for field in dataclasses.fields(section_type) if "help" in field.metadata]


def _check_type(name, value, annotation):
    if typing.get_origin(annotation) is tuple:
        element_type = typing.get_args(annotation)[0]
        if not isinstance(value, tuple):
            raise InputError(f"`{name}` must be a tuple, each entry {_TYPES[element_type][1]}. Received: {value!r}.")
        for element in value:
            _check_type(name, element, element_type)
        return
    accepted, words = _TYPES[annotation]
    # Python's True is a number.
    if not isinstance(value, accepted) or (isinstance(value, bool) and annotation is not bool):
        raise InputError(f"`{name}` must be {words}. Received: {value!r}.")
    if annotation is float and not math.isfinite(value):
        raise InputError(f"`{name}` must be a finite number. Received: {value!r}.")


def _check_limits(name, value, limits):
    for element in value if isinstance(value, tuple) else (value,):
        if limits["choices"] and element not in limits["choices"]:
            raise InputError(f"`{name}` must be one of {', '.join(limits['choices'])}. Received: {element!r}.")
        for kind, (fits, words) in _BOUNDS.items():
            if limits[kind] is not None and not fits(element, limits[kind]):
                raise InputError(f"`{name}` must be {words} {limits[kind]}. Received: {element}.")
