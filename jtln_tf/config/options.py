"""One declaration per option: its default, help and limits. Validation, flags and JSON all follow from it."""

import dataclasses
import math
import numbers
import typing
from collections.abc import Callable

from jtln_tf.config.errors import InputError


def option(
    default: object,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    parse: Callable[[str, str], object] | None = None,
) -> typing.Any:
    """Declares a field of a configuration dataclass.

    Args:
        default: Value when nothing is given; its type must fit the field's annotation.
        help: What the option does, for `--help` and the docs.
        choices: Allowed values of a text option, or None.
        minimum: Smallest allowed number, or None.
        maximum: Largest allowed number, or None.
        above: Number that the value must exceed, or None.
        parse: Turns a text and the option's name into the parsed value that the field holds. The value's `text` is
            what JSON keeps. `default` is a text then.

    Returns:
        A `dataclasses.field` that carries the limits in its metadata.
    """
    limits = {
        "help": help,
        "choices": choices,
        "minimum": minimum,
        "maximum": maximum,
        "above": above,
        "parse": parse,
    }
    return dataclasses.field(default=default, metadata=limits)


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
