"""Command line flags of the programs in `jtln_tf/tools/`, made from the options of the configuration.

Flags are read here and nowhere else; what runs gets an `ExperimentConfig`.
"""

from jtln_tf.flags.options import (
    config_from_flags,
    define_config_flags,
    define_device_flags,
    devices_from_flags,
    flag_sections,
    preset_names,
    preset_path,
    with_given_flags,
)
from jtln_tf.flags.pairs import read_pairs, with_flags

__all__ = [
    "config_from_flags",
    "define_config_flags",
    "define_device_flags",
    "devices_from_flags",
    "flag_sections",
    "preset_names",
    "preset_path",
    "read_pairs",
    "with_flags",
    "with_given_flags",
]
