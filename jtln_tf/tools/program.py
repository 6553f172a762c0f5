"""What every program does around its one call: read the flags, and say in one line what is wrong with the input."""

import logging
import os
import pathlib
import re
import signal
import sys
from collections.abc import Callable

import absl.logging
from absl import flags

from jtln_tf.config import (
    DataConfig,
    InputError,
    NonFiniteLossError,
    RunInterruptedError,
    RunStoppedError,
    domain_of_path,
)
from jtln_tf.files import escape_name, first_line
from jtln_tf.flags import preset_path
from jtln_tf.tools.help import describe_flags
from jtln_tf.tools.messages import is_json, show_messages, wrap_foreign_lines

_LOG = logging.getLogger("jtln_tf.tools")

# What every program writes on stderr.
OUTPUT_FLAGS = ("quiet", "verbose", "log_format")
# Exit statuses. EX_TEMPFAIL of sysexits.h says "try again", which neither bad input nor a divergence does, and which a
# process that a signal has killed before it could save anything (128 + 15) does not say either.
_STOPPED, _DIVERGED, _INTERRUPTED, _TRY_AGAIN = 2, 1, 130, os.EX_TEMPFAIL
# All is done but for images that cannot be read.
SOME_NOT_READ = 3


# What people who know other programs try, and what it is called here.
_OTHER_NAMES = {
    "epochs": "--steps counts steps; by default it follows the number of images",
    "batch_size": "--source_batch and --target_batch",
    "lr": "--head_learning_rate and --backbone_learning_rate",
    "learning_rate": "--head_learning_rate and --backbone_learning_rate",
    "output_dir": "--workdir",
    "gpus": "--strategy",
    "top": "--top_k",
}


def run_program(
    main: Callable,
    description: str,
    *,
    positional: str | None = None,
    needs_positional: bool = True,
    domains: tuple[str, ...] = (),
    main_flags: tuple[str, ...] = (),
) -> None:
    """Parses the flags, calls `main`, and exits the process.

    Bad input and a full disk exit with status 2, a loss that is no longer finite with 1, SIGINT with 130, SIGTERM and
    SIGHUP with 75, after which the same call with `--resume` goes on: each with one line on stderr and no traceback. An
    error of the program itself keeps its traceback.

    Args:
        main: Called without arguments, or with the list of what is no flag if `positional` names it.
        description: Shown by `--help`, before the flags.
        positional: What the arguments that are no flags are called in messages; None allows none.
        needs_positional: Whether there must be any.
        domains: Flags of domains that such arguments may stand for, in this order.
        main_flags: Flags that `--help` shows behind those of the domains; empty shows all.
    """
    _open_streams()
    # A flag that is wrong is told before the flags are known.
    show_messages(log_format="json" if re.search(r" --?log_format[= ]json( |$)", " ".join(sys.argv)) else "text")
    _catch_signals()
    absl.logging.set_verbosity(absl.logging.WARNING)
    # File names that are not UTF-8, or letters that the terminal does not have, become codes.
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        shown = (*domains, "data_root", *main_flags) if domains and main_flags else main_flags
        arguments = _parse_flags(description, shown)
        if is_json():
            wrap_foreign_lines()
        if domains:
            _take_domains(arguments, domains)
            arguments = []
        if arguments and positional is None:
            raise InputError(f"Arguments must be flags, written --name=value. Received: {arguments[0]!r}.")
        if positional is not None and needs_positional and not arguments:
            raise InputError(f"`{positional}` must be given. Received: nothing.")
        main(*([arguments] if positional else []))
    except (InputError, RunStoppedError) as error:
        _exit(_STOPPED, error)
    except flags.Error as error:
        _exit(_STOPPED, str(error).removeprefix("ERROR:: "))
    except NonFiniteLossError as error:
        _exit(_DIVERGED, error)
    except OSError as error:
        # A full disk, or a file that vanished: the program could not have known before.
        _exit(_STOPPED, f"{error.strerror or error}: {error.filename}" if error.filename else error)
    except RunInterruptedError as error:
        _exit(_INTERRUPTED if error.signal == signal.SIGINT else _TRY_AGAIN, error)
    except KeyboardInterrupt:
        _exit(
            _INTERRUPTED,
            "interrupted; `jtln train --resume` goes on from the last checkpoint (one every --steps_per_epoch); "
            "any other program, called again, goes on from what it saved.",
        )


def require_flags(*names: str) -> None:
    """Raises `InputError` if one of these flags is empty."""
    for name in names:
        if not flags.FLAGS[name].value:
            raise InputError(f"`{name}` must be given. Received: nothing.")


def default_folder(data: DataConfig, ending: str = "") -> str:
    """Returns the folder `runs/SOURCE_to_TARGETending`, named after both domains, for a program that is given none."""
    names = [re.sub(r"[^\w.-]+", "_", pathlib.PurePath(spec.name).stem) for spec in (data.source, data.target)]
    return os.path.join("runs", "_to_".join(names) + ending)


def check_output(path: str | os.PathLike, endings: tuple[str, ...], *, option: str = "output") -> None:
    """Checks the name of a file that is going to be written.

    Raises:
        InputError: If it has none of the endings, or exists and `--overwrite` is not given.
    """
    path = os.fspath(path)
    if not path.endswith(endings):
        raise InputError(f"`{option}` must be a {' or '.join(endings)} file. Received: {path!r}.")
    if os.path.exists(path) and not flags.FLAGS.overwrite:
        raise InputError(f"`{option}` must not exist. Received: {path!r}. Hint: --overwrite replaces it.")


def load_tensorflow() -> None:
    """Loads TensorFlow without its start-up notes, which say nothing of the run.

    C++ code writes them before any log level is read. Whoever gives --verbose, or sets TF_CPP_MIN_LOG_LEVEL, sees them.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ or flags.FLAGS.verbose:
        return
    # Errors of C++ code come back as exceptions; what it calls an error and goes on after is a note.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    _LOG.info("loading TensorFlow ...")
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import tensorflow as tf

        tf.config.list_physical_devices()
        # TensorFlow warns of functions traced in a loop; several runs in one process look like that.
        tf.get_logger().setLevel("ERROR")
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _open_streams():
    """Puts nothing into the place of stdin, stdout and stderr that a service has closed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Takes the lowest free descriptor, which is the closed one: no file that is opened later gets it.
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _catch_signals():
    def stop(number, frame):
        name = signal.Signals(number).name
        raise RunInterruptedError(f"stopped by {name}; called again, the program goes on from what it saved.", number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        # Under nohup a process lives on.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, stop)


def _take_domains(arguments, names):
    """Sets the flags of domains from arguments: specifications, or plain paths of folders, archives and lists."""
    if len(arguments) > len(names):
        raise InputError(
            f"Arguments must be flags, written --name=value, or {' and '.join(names)}. "
            f"Received: {arguments[len(names)]!r}."
        )
    for name, text in zip(names, arguments, strict=False):
        if flags.FLAGS[name].present:
            raise InputError(f"`{name}` must be given once. Received: {text!r} and --{name}={flags.FLAGS[name].value}.")
        domain, path = domain_of_path(text), text.partition("?")[0]
        # Before TensorFlow is loaded, and by the name of the flag.
        if domain != text and not os.path.exists(os.path.join(flags.FLAGS.data_root, path)):
            raise InputError(f"`{name}` must name an existing folder, archive or list. Received: {path!r}.")
        flags.FLAGS[name].value = domain
        flags.FLAGS[name].present += 1


def _parse_flags(description, main_flags):
    flag_values = flags.FLAGS
    flags.DEFINE_string("preset", None, "Use the flags of a preset, which --help lists; flags given after it win.")
    flags.DEFINE_bool("quiet", False, "Write only warnings, errors and the result.")
    flags.DEFINE_bool("verbose", False, "Write TensorFlow's own notes too.")
    flags.DEFINE_enum(
        "log_format",
        "text",
        ["text", "json"],
        "Lines on stderr. json: one object a line, with time, level, message and the figures of a checkpoint; no bars.",
    )
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", allow_override=True)
    flags.DEFINE_bool("helpfull", False, "Show the help with all flags.", allow_override=True)
    try:
        arguments = flag_values([_expand_preset(argument) for argument in sys.argv])[1:]
    except flags.UnrecognizedFlagError as error:
        if error.flagname not in _OTHER_NAMES:
            raise
        raise InputError(
            f"A flag must be one that --helpfull describes. Received: --{error.flagname}. Hint: "
            f"{_OTHER_NAMES[error.flagname]}."
        ) from error
    if flag_values.quiet and flag_values.verbose:
        raise InputError("`quiet` and `verbose` exclude each other. Received: both.")
    show_messages(is_quiet=flag_values.quiet, log_format=flag_values.log_format)
    if flag_values.preset is not None:
        raise InputError(
            f"`preset` must be written --preset=NAME on the command line. Received: {flag_values.preset!r}."
        )
    for name in flag_values:
        value = flag_values[name].value
        # TensorFlow and ArrayRecord raise errors of their own for such paths.
        if isinstance(value, str) and value.encode("utf-8", "replace").decode() != value:
            raise InputError(f"`{name}` must be UTF-8. Received: {value!r}. Hint: rename the file or folder.")
    if flag_values.help or flag_values.helpfull:
        print(describe_flags(description, main_flags, is_full=flag_values.helpfull))
        sys.exit(0)
    return arguments


def _expand_preset(argument):
    name, equals, value = argument.partition("=")
    return f"--flagfile={preset_path(value)}" if name in ("--preset", "-preset") and equals else argument


def _exit(status, error):
    # The name of a file may hold an escape sequence of the terminal.
    _LOG.error("%s", "".join(escape_name(first_line(error, most=None))))
    sys.exit(status)
