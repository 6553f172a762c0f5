"""One form of Unicode for every name that comes in."""

import unicodedata


def normalize_name(name: str) -> str:
    """Returns a name in NFC: macOS stores an accent apart from its letter, other systems do not."""
    return unicodedata.normalize("NFC", name)
