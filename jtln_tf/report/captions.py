"""Names as a picture can show them. Imports no TensorFlow."""

from collections.abc import Callable

LONGEST_NAME = 40


def find_shown_characters() -> Callable[[str], bool]:
    """Returns a function that tells whether matplotlib's font has a character."""
    from matplotlib import font_manager

    codes = font_manager.get_font(font_manager.findfont(font_manager.FontProperties())).get_charmap()
    return lambda character: character.isprintable() and ord(character) in codes


def shorten_name(pieces: list[str]) -> str:
    """Joins pieces of a name to at most `LONGEST_NAME` characters; leaves out pieces of the middle, and cuts none."""
    # The ends of class names tell more than their middles: "Brand-...-Juice".
    pieces = pieces[:LONGEST_NAME] + pieces[LONGEST_NAME:][-LONGEST_NAME:]
    if sum(map(len, pieces)) <= LONGEST_NAME:
        return "".join(pieces)
    while sum(map(len, pieces)) >= LONGEST_NAME:
        del pieces[len(pieces) // 2]
    pieces.insert((len(pieces) + 1) // 2, "…")
    return "".join(pieces)
