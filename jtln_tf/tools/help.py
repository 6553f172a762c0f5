"""What `--help` shows: the flags that matter, and with `--helpfull` all of them by section."""

import shutil
import textwrap

from absl import flags

from jtln_tf.flags import flag_sections, preset_names

_OWN = "program"
_SHORTEST, _LONGEST = 60, 120


def describe_flags(description: str, main_flags: tuple[str, ...], *, is_full: bool) -> str:
    """Returns the text of `--help`; without `main_flags`, or if it `is_full`, with all flags by section."""
    values, sections = flags.FLAGS, _sections()
    known = [name for names in sections.values() for name in names]
    lines = [description.strip(), ""]
    if main_flags and not is_full:
        lines += [line for name in main_flags for line in _describe(values[name])]
        others = len(known) - len(main_flags)
        lines += ["", f"--helpfull describes {others} more flags."]
    else:
        for title, names in sections.items():
            lines += ([f"{title}:", ""] if len(sections) > 1 else []) + [
                line for name in names for line in _describe(values[name])
            ]
            lines.append("")
    if "preset" in known and len(sections) > 1:
        lines += ["", *_wrap(f"Presets (--preset=NAME): {', '.join(preset_names())}.", "")]
    return "\n".join(lines).strip()


def _sections():
    """Returns the names of the flags, but for absl's own, by the title of their section."""
    found = {title: names for title, names in flag_sections().items() if all(name in flags.FLAGS for name in names)}
    in_sections = {name for names in found.values() for name in names}
    own = [
        flag.name
        for module, members in flags.FLAGS.flags_by_module_dict().items()
        if not module.startswith("absl.")
        for flag in members
        if flag.name not in in_sections
    ]
    return {_OWN: sorted(own), **found}


def _describe(flag):
    name = f"[no]{flag.name}" if flag.boolean else flag.name

    limits = getattr(flag.parser, "syntactic_help", "")
    notes = [f"(default: {flag.default_as_str})"] if flag.default not in (None, "", []) else []
    notes += [f"({limits})"] if limits and "comma" not in limits else []
    return [f"  --{name}:", *_wrap(" ".join([flag.help, *notes]), "      ")]


def _wrap(text, indent):
    width = min(_LONGEST, max(_SHORTEST, shutil.get_terminal_size().columns))
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
