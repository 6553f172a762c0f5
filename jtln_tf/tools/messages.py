"""What programs write on stderr beside their progress bars."""

import logging
import sys


class MessageHandler(logging.Handler):
    """Writes each message in a line of its own: notes as they are, warnings marked. Progress bars stay whole."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one message."""
        try:
            mark = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
            text = mark + self.format(record)
            # Without tqdm there is no bar yet.
            if "tqdm" in sys.modules:
                sys.modules["tqdm"].tqdm.write(text, file=sys.stderr)
            else:
                print(text, file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def show_messages() -> None:
    """Lets this handler write what the package logs, and other libraries' warnings."""
    # absl would add a handler that marks each line with its level and module.
    logging.getLogger().addHandler(MessageHandler())
