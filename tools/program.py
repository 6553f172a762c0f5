"""What every program does around its one call: read the flags, and say in one line what is wrong with the input."""

import os
import sys

from absl import flags, logging

from flags import preset_path
from jtln_tf.config import InputError, NonFiniteLossError, RunStoppedError
from jtln_tf.files import escape_name

BAD_INPUT = 2
STOPPED = 2
DIVERGED = 1
INTERRUPTED = 130


def run_program(main, description, *, positional=None):
    """Parses the flags, calls `main`, and exits the process.

    Bad input and a disk that takes no more exit with status 2, a loss that is no longer finite with 1: each with one
    line on stderr and no traceback. An error of the program itself keeps its traceback.

    Args:
        main: Called with the arguments that are no flags; returns None.
        description: Shown by `--help`, before the flags.
        positional: What the arguments that are no flags are called in messages; None allows none.
    """
    logging.set_verbosity(logging.WARNING)
    try:
        arguments = _parse_flags(description)
        if arguments and positional is None:
            raise InputError(f"Arguments must be flags, written --name=value. Received: {arguments[0]!r}.")
        if positional is not None and not arguments:
            raise InputError(f"`{positional}` must be given. Received: nothing.")
        main(arguments)
    except (InputError, flags.Error) as error:
        _say(error)
        sys.exit(BAD_INPUT)
    except RunStoppedError as error:
        _say(error)
        sys.exit(STOPPED)
    except NonFiniteLossError as error:
        _say(error)
        sys.exit(DIVERGED)
    except OSError as error:
        # A full disk, a file that vanished: nothing the program could have known before.
        _say(f"{error.strerror or error}: {error.filename}" if error.filename else error)
        sys.exit(STOPPED)
    except KeyboardInterrupt:
        _say(
            "interrupted; `tools.train --resume` goes on from the last checkpoint (one every --steps_per_epoch), "
            "another program called again from what was saved."
        )
        sys.exit(INTERRUPTED)


def load_tensorflow():
    """Loads TensorFlow without its start-up notes, which say nothing of the run.

    They are written by C++ code before any log level is read. Whoever sets TF_CPP_MIN_LOG_LEVEL sees them.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    print("loading TensorFlow ...", file=sys.stderr, flush=True)
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import tensorflow as tf

        tf.config.list_physical_devices()
        # Several runs in one process are no sign of a function traced in a loop.
        tf.get_logger().setLevel("ERROR")
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _parse_flags(description):
    flag_values = flags.FLAGS
    flags.DEFINE_string("preset", None, "Use the flags of flags/presets/NAME.flags; flags given after it win.")
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", allow_override=True)
    arguments = flag_values([_expand_preset(argument) for argument in sys.argv])[1:]
    if flag_values.preset is not None:
        raise InputError(
            f"`preset` must be written --preset=NAME on the command line. Received: {flag_values.preset!r}."
        )
    if flag_values.help:
        print(description.strip())
        # Only what was defined for the programs, not absl's own logging flags.
        for module, members in sorted(flag_values.flags_by_module_dict().items()):
            if not module.startswith("absl."):
                print(flag_values.module_help(module) if len(members) else "", end="")
        sys.exit(0)
    return arguments


def _expand_preset(argument):
    name, equals, value = argument.partition("=")
    return f"--flagfile={preset_path(value)}" if name in ("--preset", "-preset") and equals else argument


def _say(error):
    lines = str(error).splitlines() or [type(error).__name__]
    # A file may be called anything, an escape sequence of the terminal too.
    print(f"error: {''.join(escape_name(lines[0]))}", file=sys.stderr)
