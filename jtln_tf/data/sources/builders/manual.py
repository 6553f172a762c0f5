"""Data that a person downloads and unpacks: where it is, and what is said when it is not there."""

from jtln_tf.config import InputError, MissingInputError


def find_manual_folder(manual_dir, candidates, content, archive, unpack_in):
    """Returns the unpacked folder of a data set.

    Args:
        manual_dir: `epath.Path` of TFDS's folder for downloads by hand.
        candidates: Names of folders in it, the first being the one to name in messages; `.` is `manual_dir` itself.
        content: Relative path that tells the folder.
        archive: File name of the archive as published, for a message that asks to unpack it.
        unpack_in: Folder of `manual_dir` to unpack it in.

    Raises:
        MissingInputError: If none of the candidates has the content.
    """
    for candidate in candidates:
        if (manual_dir / candidate / content).exists():
            return manual_dir / candidate
    missing = str(manual_dir / candidates[0] / content)
    if (manual_dir / archive).exists():
        folder = manual_dir / unpack_in
        raise MissingInputError(
            f"{archive} must be unpacked. Received: no {missing!r}. "
            f"Hint: mkdir -p '{folder}' && tar xzf '{manual_dir / archive}' -C '{folder}'"
        )
    raise MissingInputError(f"{archive} must be downloaded and unpacked. Received: no {missing!r}.")


def read_lines(path):
    """Returns the lines of a UTF-8 text file that are not blank, stripped.

    Raises:
        MissingInputError: If there is no such file.
        InputError: If it is no UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise MissingInputError(f"A data set must be complete. Received: no {str(path)!r}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"A list of images or classes must be UTF-8 text. Received: {str(path)!r}.") from error
    return [line.strip() for line in text.split("\n") if line.strip()]


def require_count(what, expected, received, folder):
    """Raises `InputError` unless `received` is `expected`, the number that the data set is published with."""
    if received != expected:
        raise InputError(f"{what} must be {expected}. Received: {received} in {str(folder)!r}.")
