"""Passes lines from stdin on to stderr; a line that is no JSON object, such as a C library's, becomes one.

A script that imports nothing of this package, so that it begins at once.
"""

import datetime
import json
import signal
import sys


def main():
    """Ends when the last process that writes into it has ended."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        text = line.decode("utf-8", "backslashreplace").rstrip()
        if text:
            print(text if _is_object(text) else _make_object(text), file=sys.stderr, flush=True)


def _is_object(text):
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _make_object(text):
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": time, "level": "warning", "message": text})


if __name__ == "__main__":
    main()
