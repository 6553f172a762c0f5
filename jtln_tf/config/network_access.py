"""Whether a server can be reached, found out soon: libraries that download wait for minutes. Imports no TensorFlow."""

import functools
import threading
import urllib.error
import urllib.parse
import urllib.request

_MOST_SECONDS = 8
WITHOUT_NETWORK = "builtin:, folder:, list: and records: domains need no network"


def can_reach(url: str) -> bool:
    """Returns whether the server of a URL answers anything within some seconds; a proxy of the environment is asked."""
    parts = urllib.parse.urlsplit(url)
    return _does_answer(f"{parts.scheme}://{parts.netloc}/")


@functools.cache
def _does_answer(address):
    answers = []

    def ask():
        try:
            with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_MOST_SECONDS):
                answers.append(True)
        except urllib.error.HTTPError:
            # A server that refuses is there.
            answers.append(True)
        except (OSError, ValueError):
            pass

    # Looking a name up has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_MOST_SECONDS)
    return bool(answers)
