"""Every option of `ExperimentConfig` as an absl flag of the same name, with its help, limits and default."""

import dataclasses
import pathlib
import typing

from absl import flags

from jtln_tf.config import ExperimentConfig, InputError

_PRESETS = pathlib.Path(__file__).parent / "presets"


def define_config_flags(*sections, flag_values=flags.FLAGS):
    """Defines a flag for each option of the named sections of `ExperimentConfig`, or of all of them.

    Args:
        *sections: Names of sections (`data`, `network`, ...); none means all.
        flag_values: Where the flags are defined.
    """
    for section in dataclasses.fields(ExperimentConfig):
        if not sections or section.name in sections:
            types = typing.get_type_hints(section.type)
            for field in dataclasses.fields(section.type):
                _define_flag(field, types[field.name], flag_values)


def config_from_flags(flag_values=flags.FLAGS):
    """Builds the `ExperimentConfig` that the parsed flags describe; sections without flags keep their defaults.

    Raises:
        InputError: If a value does not fit.
    """
    return _replace(ExperimentConfig(), flag_values, lambda flag: True)


def with_given_flags(config, flag_values=flags.FLAGS):
    """Returns a configuration with the values of those flags that were given, in place of its own.

    Raises:
        InputError: If a value does not fit.
    """
    return _replace(config, flag_values, lambda flag: flag.present)


def _replace(config, flag_values, counts):
    sections = {}
    for section in dataclasses.fields(ExperimentConfig):
        types = typing.get_type_hints(section.type)
        values = {
            field.name: _convert(field.name, flag_values[field.name].value, types[field.name])
            for field in dataclasses.fields(section.type)
            if field.name in flag_values and counts(flag_values[field.name])
        }
        sections[section.name] = dataclasses.replace(getattr(config, section.name), **values)
    return ExperimentConfig(**sections)


def preset_path(name):
    """Returns the flag file of a preset.

    Raises:
        InputError: If there is none of that name.
    """
    presets = sorted(path.stem for path in _PRESETS.glob("*.flags"))
    if name not in presets:
        raise InputError(f"`preset` must be one of {', '.join(presets)}. Received: {name!r}.")
    return _PRESETS / f"{name}.flags"


def _define_flag(field, annotation, flag_values):
    limits = field.metadata
    bounds = {"lower_bound": limits["minimum"], "upper_bound": limits["maximum"]}
    arguments = {"name": field.name, "default": field.default, "help": limits["help"], "flag_values": flag_values}
    if typing.get_origin(annotation) is tuple:
        arguments["default"] = [str(element) for element in field.default]
        flags.DEFINE_list(**arguments)
    elif limits["choices"]:
        flags.DEFINE_enum(**arguments, enum_values=limits["choices"])
    elif annotation is bool:
        flags.DEFINE_bool(**arguments)
    elif annotation is int:
        flags.DEFINE_integer(**arguments, **bounds)
    elif annotation is float:
        flags.DEFINE_float(**arguments, **bounds)
    else:
        flags.DEFINE_string(**arguments)


def _convert(name, value, annotation):
    if typing.get_origin(annotation) is not tuple:
        return value
    element_type = typing.get_args(annotation)[0]
    try:
        return tuple(element_type(element) for element in value)
    except ValueError as error:
        raise InputError(f"`{name}` must be numbers, comma separated. Received: {','.join(value)!r}.") from error
