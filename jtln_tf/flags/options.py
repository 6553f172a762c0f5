"""Every option of a configuration as an absl flag of the same name, with its help, limits and default."""

import dataclasses
import pathlib
import typing

from absl import flags

from jtln_tf.config import DeviceConfig, InputError, options_of
from jtln_tf.experiment.config import SECTIONS, ExperimentConfig
from jtln_tf.methods import DEFAULT_METHOD, METHODS, find_method

_PRESETS = pathlib.Path(__file__).parent / "presets"


def define_config_flags(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag for each option of each section, and of each method."""
    for section in SECTIONS.values():
        _define_section(section, flag_values)
    flags.DEFINE_enum("method", DEFAULT_METHOD.name, list(METHODS), "Training method.", flag_values=flag_values)
    for method in METHODS.values():
        _define_section(method, flag_values)


def define_device_flags(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag for each option of the devices."""
    _define_section(DeviceConfig, flag_values)


def devices_from_flags(flag_values: flags.FlagValues = flags.FLAGS) -> DeviceConfig:
    """Builds the configuration of the devices from the parsed flags."""
    return DeviceConfig(**_values(DeviceConfig, flag_values))


def config_from_flags(method: str | None = None, flag_values: flags.FlagValues = flags.FLAGS) -> ExperimentConfig:
    """Builds the configuration from the parsed flags; `method`, if given, replaces `--method`."""
    sections = {name: section(**_values(section, flag_values)) for name, section in SECTIONS.items()}
    chosen = find_method(method or flag_values.method)
    return ExperimentConfig(**sections, method=chosen(**_values(chosen, flag_values, only_given=True)))


def with_given_flags(config: ExperimentConfig, flag_values: flags.FlagValues = flags.FLAGS) -> ExperimentConfig:
    """Returns a configuration with the values of the flags that were given in place of its own."""
    sections = {
        name: dataclasses.replace(getattr(config, name), **_values(section, flag_values, only_given=True))
        for name, section in SECTIONS.items()
    }
    method = config.method
    if flag_values["method"].present and flag_values.method != method.name:
        method = find_method(flag_values.method)()
    given = _values(type(method), flag_values, only_given=True)
    return ExperimentConfig(**sections, method=dataclasses.replace(method, **given))


def flag_sections() -> dict[str, list[str]]:
    """Returns the names of the flags of each section of a configuration, by its title."""
    titles = {name: name for name in SECTIONS} | {"cost": "cost matrix"}
    sections = {titles[name]: _names(section) for name, section in SECTIONS.items()}
    of_methods = [name for method in METHODS.values() for name in _names(method)]
    return sections | {"method": ["method", *dict.fromkeys(of_methods)], "devices": _names(DeviceConfig)}


def preset_names() -> list[str]:
    """Returns the names of all presets."""
    return sorted(path.stem for path in _PRESETS.glob("*.flags"))


def preset_path(name: str) -> pathlib.Path:
    """Returns the flag file of a preset; raises `InputError` if there is none of that name."""
    if name not in preset_names():
        raise InputError(f"`preset` must be one of {', '.join(preset_names())}. Received: {name!r}.")
    return _PRESETS / f"{name}.flags"


def _names(section):
    return [section.prefix + field.name for field in options_of(section)]


def _define_section(section, flag_values):
    types = typing.get_type_hints(section)
    for field in options_of(section):
        # Methods share options: a method that builds on another has all of its options.
        if section.prefix + field.name not in flag_values:
            _define_flag(section.prefix + field.name, field, types[field.name], flag_values)


def _define_flag(name, field, annotation, flag_values):
    limits = field.metadata
    arguments = {"name": name, "default": field.default, "help": limits["help"], "flag_values": flag_values}
    if typing.get_origin(annotation) is tuple:
        flags.DEFINE_list(**{**arguments, "default": [str(element) for element in field.default]})
    elif limits["choices"]:
        flags.DEFINE_enum(**arguments, enum_values=limits["choices"])
    elif annotation in (int, float):
        define = flags.DEFINE_integer if annotation is int else flags.DEFINE_float
        define(**arguments, lower_bound=limits["minimum"], upper_bound=limits["maximum"])
    else:
        define = flags.DEFINE_bool if annotation is bool else flags.DEFINE_string
        define(**arguments)


def _values(section, flag_values, only_given=False):
    types = typing.get_type_hints(section)
    names = {field.name: section.prefix + field.name for field in options_of(section)}
    return {
        name: _convert(flag, flag_values[flag].value, types[name])
        for name, flag in names.items()
        if flag_values[flag].present or not only_given
    }


def _convert(name, value, annotation):
    if typing.get_origin(annotation) is not tuple:
        return value
    element_type = typing.get_args(annotation)[0]
    try:
        return tuple(element_type(element) for element in value)
    except ValueError as error:
        raise InputError(f"`{name}` must be numbers, comma separated. Received: {','.join(value)!r}.") from error
