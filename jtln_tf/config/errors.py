"""Errors that the person at the keyboard can mend. The command line shows their one line and no traceback."""


class InputError(ValueError):
    """A value that a user gave does not fit. The message names it, says what it must be, and what was received.

    Examples:
        >>> import jtln_tf as jt
        >>> try:
        ...     jt.load_domain("builtin:letters")
        ... except jt.InputError as error:
        ...     print(error)
        A builtin domain must be one of mnist5k, optdigits. Received: 'letters'.
    """


class MissingInputError(InputError, FileNotFoundError):
    """A file or folder that a user named does not exist."""

    def __str__(self):
        # FileNotFoundError would print errno and file name, which stay unset here.
        return str(self.args[0]) if self.args else ""


class NonFiniteLossError(ArithmeticError):
    """A part of the loss, a gradient, a weight or a probability is no longer a number that can be used.

    Attributes:
        step: The first such step of training, counted from 1; 0 if it is not known.
    """

    def __init__(self, message: str, step: int = 0):
        """Takes the message and the step."""
        super().__init__(message)
        self.step = step


class RunInterruptedError(KeyboardInterrupt):
    """A signal stopped the program; what it had done is saved.

    Attributes:
        signal: Number of the signal.
    """

    def __init__(self, message: str, signal: int = 0):
        """Takes the message and the signal."""
        super().__init__(message)
        self.signal = signal


class RunStoppedError(RuntimeError):
    """A run cannot go on for a reason outside of the program (a full disk, say); what was saved stays usable."""
