"""Signals that ask a run to stop: they are noted, and training saves and stops between two steps."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from jtln_tf.config import RunInterruptedError

# Of a scheduler, of a terminal that is closed, of a person.
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class StopRequest:
    """Whether a signal has asked this process to stop.

    Attributes:
        signal: The signal, or None.
    """

    def __init__(self):
        """Has received nothing yet."""
        self.signal = None

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Notes signals inside the block instead of being stopped by them; a second SIGINT acts at once.

        Leaves a signal alone that the process ignores (as under `nohup`), and all of them outside of the main thread.
        Raises `RunInterruptedError` at the end of the block if one came that nobody has acted on.
        """
        former = {}
        if threading.current_thread() is threading.main_thread():
            former = {one: signal.getsignal(one) for one in _SIGNALS}
            former = {one: handler for one, handler in former.items() if handler not in (signal.SIG_IGN, None)}

        def note(number, frame):
            self.signal = signal.Signals(number)
            if number == signal.SIGINT:
                signal.signal(number, former[number])

        for one in former:
            signal.signal(one, note)
        try:
            yield
        finally:
            for one, handler in former.items():
                signal.signal(one, handler)
        if self.signal is not None:
            self.raise_error("the end of training")

    def raise_error(self, saved: str) -> None:
        """Raises `RunInterruptedError`, which says what was saved."""
        raise RunInterruptedError(
            f"stopped by {self.signal.name}; {saved} is saved. `jtln train --workdir=DIR --resume`, or `jtln compare`"
            " called again, goes on from there.",
            self.signal,
        )
