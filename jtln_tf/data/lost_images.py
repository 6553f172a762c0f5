"""Images that could be read when a run began, and no longer can."""

import contextlib
import os

import tensorflow as tf

from jtln_tf.config import InputError, RunStoppedError
from jtln_tf.data import decode_all

_READ_ERRORS = (
    tf.errors.DataLossError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    # What a reader written in Python raised.
    tf.errors.UnknownError,
)


@contextlib.contextmanager
def tell_lost_images(*domains):
    """Tells of an image that vanished or was damaged since its domain was loaded; other errors pass as they are.

    Only images that are decoded whenever they are read (`cache="none"`) can get lost.

    Args:
        *domains: The `Domain`s whose images are read inside.

    Raises:
        RunStoppedError: If TensorFlow failed and there is such an image.
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
    """Returns what is wrong with the first image of a split that cannot be read, or None."""
    if split.is_decoded:
        return None
    if split.reader is None:
        for path in split.images:
            # The usual case, found without decoding the others.
            if isinstance(path, str) and not os.path.exists(path):
                return f"{path!r}, which has gone"
    try:
        return next((_describe(split, row) for row in decode_all(split)), None)
    except InputError as error:
        # A shard, which names itself.
        return str(error).rstrip(".")


def _describe(split, row):
    reason, image = split.find_reason(row), split.images[row]
    return f"{image!r} ({reason})" if isinstance(image, str) else f"record {image} ({reason})"
