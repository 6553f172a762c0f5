"""Data that a person downloads and unpacks: where it is, and what to do if it is missing.

TFDS hands over paths of its own kind, with the methods of `pathlib.Path`.
"""

import pathlib
from collections.abc import Sequence

from jtln_tf.config import InputError, MissingInputError


def find_manual_folder(
    manual_dir: pathlib.Path, candidates: Sequence[str], content: str, archive: str, unpack_in: str
) -> pathlib.Path:
    """Returns the unpacked folder of a data set: the first of some folders in TFDS's `manual_dir` that has a content.

    `MissingInputError` tells to download the published archive, or to unpack it in the folder `unpack_in`.
    """
    for candidate in candidates:
        if (manual_dir / candidate / content).exists():
            return manual_dir / candidate
    # Relative paths keep the line short; the caller tells where manual_dir is.
    missing = f"{candidates[0]}/{content}"
    if (manual_dir / archive).exists():
        raise MissingInputError(
            f"{archive} must be unpacked. Received: no {missing!r}. "
            f"Hint: mkdir -p {unpack_in} && tar xzf {archive} -C {unpack_in} in manual_dir."
        )
    raise MissingInputError(f"{archive} must be downloaded and unpacked. Received: no {missing!r}.")


def read_lines(path: pathlib.Path) -> list[str]:
    """Returns the lines of a UTF-8 text file that are not blank, stripped; `InputError` if it is missing or no text."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise MissingInputError(f"A data set must be complete. Received: no {str(path)!r}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"A list of images or classes must be UTF-8 text. Received: {str(path)!r}.") from error
    return [line.strip() for line in text.split("\n") if line.strip()]


def require_count(what: str, expected: int, received: int, place: pathlib.Path) -> None:
    """Raises `InputError` if a count is not the published one."""
    if received != expected:
        raise InputError(f"{what} must be {expected}. Received: {received} in {str(place)!r}.")
