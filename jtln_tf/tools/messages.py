"""What programs write on stderr beside their progress bars: lines of text, or of JSON."""

import atexit
import contextlib
import datetime
import json
import logging
import math
import os
import pathlib
import subprocess
import sys
import traceback
import typing

_LOG = logging.getLogger("jtln_tf.tools")
_WRAPPER = pathlib.Path(__file__).with_name("json_lines.py")
# In seconds.
_PATIENCE = 5
_YELLOW, _RED, _BOLD, _PLAIN = "\x1b[33m", "\x1b[31m", "\x1b[1m", "\x1b[0m"


class MessageHandler(logging.Handler):
    """Writes each message in a line of its own. Progress bars stay whole.

    As text, warnings are marked and notes are not. As JSON, a line is an object with `time`, `level`, `message` and, if
    the message has them, its `figures`.

    Attributes:
        is_json: Whether lines are JSON.
    """

    def __init__(self, *, is_json: bool = False):
        """Writes messages of all levels."""
        super().__init__()
        self.is_json = is_json

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one message."""
        try:
            text = self._format_json(record) if self.is_json else self._format_text(record)
            # Without tqdm there is no bar yet.
            if "tqdm" in sys.modules:
                sys.modules["tqdm"].tqdm.write(text, file=sys.stderr)
            else:
                print(text, file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)

    def _format_text(self, record):
        text = self.format(record)
        if (strong := getattr(record, "strong", "")) and strong in text:
            text = text.replace(strong, emphasize(strong, sys.stderr), 1)
        if record.levelno < logging.WARNING:
            return text
        is_error = record.levelno >= logging.ERROR
        return f"{_paint(f'{record.levelname.lower()}:', _RED if is_error else _YELLOW, sys.stderr)} {text}"

    def _format_json(self, record):
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        entry = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": self.format(record),
            **getattr(record, "figures", {}),
        }
        # JSON has neither NaN nor infinity.
        bad = [name for name, value in entry.items() if isinstance(value, float) and not math.isfinite(value)]
        return json.dumps(entry | dict.fromkeys(bad))


_HANDLER = MessageHandler()


def show_messages(*, is_quiet: bool = False, log_format: str = "text") -> None:
    """Lets one handler write what the package logs, and other libraries' warnings.

    Progress bars that are made from now on are shown unless it `is_quiet`, which leaves warnings and errors, or the
    `log_format` is `json`, which also turns Python's own warnings and tracebacks into such lines.
    """
    # absl would add a handler that marks each line with its level and module.
    logging.getLogger().addHandler(_HANDLER)
    _LOG.setLevel(logging.INFO)
    _HANDLER.setLevel(logging.WARNING if is_quiet else logging.NOTSET)
    _HANDLER.is_json = log_format == "json"
    if is_quiet or _HANDLER.is_json:
        # tqdm reads it when it is imported, in processes that this one starts too.
        os.environ["TQDM_DISABLE"] = "1"
    if _HANDLER.is_json:
        logging.captureWarnings(True)
        sys.excepthook = _log_traceback


def wrap_foreign_lines() -> None:
    """Makes lines that C libraries write on stderr, libjpeg for example, JSON objects as well.

    All lines pass through a process of its own, so that none is lost if this one crashes.
    """
    stderr, (reader, writer) = os.dup(2), os.pipe()
    command = [sys.executable, "-I", "-S", str(_WRAPPER)]
    # Of stdout it holds nothing: whoever reads that waits for its end.
    wrapper = subprocess.Popen(command, stdin=reader, stdout=subprocess.DEVNULL)
    os.dup2(writer, 2)
    os.close(reader)
    os.close(writer)
    atexit.register(_end_wrapper, wrapper, stderr)


def _end_wrapper(wrapper, stderr):
    """Waits until all lines are written: whoever started this process may read them as soon as it ends."""
    sys.stderr.flush()
    os.dup2(stderr, 2)
    # A process that this one started may go on and hold the pipe.
    with contextlib.suppress(subprocess.TimeoutExpired):
        wrapper.wait(_PATIENCE)


def is_json() -> bool:
    """Whether every line on stderr is a JSON object."""
    return _HANDLER.is_json


def emphasize(text: str, stream: typing.TextIO) -> str:
    """Returns a text as it is written bold on a stream; unchanged unless that is a terminal that may have colours."""
    return _paint(text, _BOLD, stream)


def _paint(text, code, stream):
    # See no-color.org.
    return f"{code}{text}{_PLAIN}" if stream.isatty() and not os.environ.get("NO_COLOR") else text


def _log_traceback(kind, error, trace):
    told = "".join(traceback.format_exception(kind, error, trace))
    _LOG.critical("%s: %s", kind.__name__, error, extra={"figures": {"traceback": told}})
