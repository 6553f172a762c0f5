"""Images that were readable when a run began, and no longer are."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from jtln_tf.config import InputError, RunStoppedError
from jtln_tf.data.domain import Domain
from jtln_tf.data.reading.split import decode_all

_READ_ERRORS = (
    tf.errors.DataLossError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    # Raised for an error of a reader that is written in Python.
    tf.errors.UnknownError,
)


@contextlib.contextmanager
def tell_lost_images(*domains: Domain) -> Iterator[None]:
    """Raises `RunStoppedError` with the name of an image that has vanished or was damaged since its domain was loaded.

    Only images that are decoded each time they are read (`cache="none"`) can get lost. Other errors pass unchanged.
    """
    try:
        yield
    except _READ_ERRORS as error:
        splits = [split for domain in domains for split in (domain.train, domain.validation, domain.test)]
        lost = next(filter(None, map(_find_lost, splits)), None)
        if lost is None:
            raise
        raise RunStoppedError(f"Every image must stay readable while a run goes on. Received: {lost}.") from error


def _find_lost(split):
    """Returns what is wrong with the first unreadable image of a split, or None."""
    if split.is_decoded:
        return None
    # The usual case needs no decoding.
    if missing := split.images.find_missing():
        return f"{missing}, which has gone"
    try:
        return next((f"{split.images.describe(row)} ({split.find_reason(row)})" for row in decode_all(split)), None)
    except InputError as error:
        # The message names the file of records.
        return str(error).rstrip(".")
