"""Whether a server can be reached, found out soon: libraries that download wait for minutes. Imports no TensorFlow."""

import functools
import threading
import urllib.error
import urllib.parse
import urllib.request

_MOST_SECONDS, _FIRST_REFUSAL = 5, 400
WITHOUT_NETWORK = "builtin:, folder:, list: and records: domains need no network"


def can_reach(url: str) -> bool:
    """Returns whether the server of a URL answers anything within some seconds; a proxy of the environment is asked."""
    parts = urllib.parse.urlsplit(url)
    return _ask(f"{parts.scheme}://{parts.netloc}/") is not None


def has_file(url: str) -> bool:
    """Returns whether a server answers within some seconds that it has the file of a URL."""
    status = _ask(url)
    return status is not None and status < _FIRST_REFUSAL


@functools.cache
def _ask(url):
    """Returns the status of HTTP that a server answers, or None if none answers."""
    answers = []

    def ask():
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_MOST_SECONDS) as answer:
                answers.append(answer.status)
        except urllib.error.HTTPError as error:
            # A server that refuses is there.
            answers.append(error.code)
        except (OSError, ValueError):
            pass

    # Looking a name up has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_MOST_SECONDS)
    return answers[0] if answers else None
