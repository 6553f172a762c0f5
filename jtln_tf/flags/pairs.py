"""Files of pairs: the flags of several comparisons, a line for each."""

import copy
import os
import re
import shlex
from collections.abc import Sequence

from absl import flags

from jtln_tf.config import InputError
from jtln_tf.files import first_line
from jtln_tf.flags.options import flag_sections, preset_path

_NAME = re.compile(r"[0-9A-Za-z][\w.-]{0,99}")
# Beside the options of a configuration, what a line may set.
_OWN_FLAGS = ("label_counts", "methods", "preset")
# What the runs of a comparison are counted by, so that a value of their own would be passed over.
_OF_ALL_RUNS = {"method": "--methods of the call", "seed": "--seed of the call"}
_MOST_BYTES = 2**20


def read_pairs(path: str | os.PathLike, flag_values: flags.FlagValues = flags.FLAGS) -> dict[str, flags.FlagValues]:
    """Reads a file of pairs and returns the flags of each, by name.

    A line is a name and flags, separated and quoted as in a shell: `photo_art --source=folder:photo
    --target=folder:art`. Empty lines, and what stands behind #, are left out. The flags of a line win over those that
    `flag_values` has, but a relative `--data_root` is one inside of theirs; `--preset=NAME`, `--methods` and
    `--label_counts` are allowed.

    Args:
        path: The file, UTF-8.
        flag_values: Parsed flags that hold for all pairs; they are not changed.

    Raises:
        InputError: If the file cannot be read, names no pair or one twice, or a line has other words than a name and
            flags of a configuration.
    """
    found = {}
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
            if not words:
                continue
            name, own = _check_name(words[0], found), words[1:]
            found[name] = with_flags(own, flag_values, others=_OWN_FLAGS)
            # Joined to an absolute path, nothing but that is left.
            found[name].data_root = os.path.join(flag_values.data_root, found[name].data_root)
        except (ValueError, flags.Error, InputError) as error:
            raise InputError(
                f"`pairs` must be a file with lines of a name and flags of a configuration, such as `art "
                f"--source=folder:A --target=folder:B`. Received: line {number} of {os.fspath(path)!r}: "
                f"{first_line(error)}"
            ) from error
    if not found:
        raise InputError(f"`pairs` must be a file that names a pair. Received: {os.fspath(path)!r}, which names none.")
    return found


def _read_text(path):
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) <= _MOST_BYTES:
            return content.decode("utf-8-sig")
        problem = "more than 1 MiB"
    except (OSError, UnicodeDecodeError) as error:
        problem = first_line(error)
    raise InputError(f"`pairs` must be a text file in UTF-8. Received: {os.fspath(path)!r} ({problem}).")


def _check_name(name, known):
    if not _NAME.fullmatch(name):
        raise InputError(f"a name must be letters, digits and . _ -, without flags before it, not {name[:100]!r}.")
    if name in known:
        raise InputError(f"{name!r} is named twice.")
    return name


def with_flags(
    words: Sequence[str], flag_values: flags.FlagValues = flags.FLAGS, *, others: Sequence[str] = ()
) -> flags.FlagValues:
    """Returns parsed flags with some more of them set, written `--name=value`; raises `InputError` for other words.

    They must be options of a configuration, but not its method or seed, or among `others`.
    """
    allowed = {name for names in flag_sections().values() for name in names}.union(others)
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        if not word.startswith("--") or not {name, name.removeprefix("no")} & allowed:
            raise InputError(f"{word[:100]!r} is no flag of a configuration")
        if name in _OF_ALL_RUNS:
            raise InputError(f"{word[:100]!r} has no effect here; {_OF_ALL_RUNS[name]} chooses it")
    values = copy.deepcopy(flag_values)
    values(["", *map(_expand_preset, words)])
    return values


def _expand_preset(word):
    return f"--flagfile={preset_path(word.partition('=')[2])}" if word.startswith("--preset=") else word
