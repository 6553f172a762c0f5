"""Names as a picture, or a line of text, can show them. Floor 0; imports no TensorFlow."""

LONGEST_NAME = 40


def find_shown_characters():
    """Returns a function that tells whether matplotlib's font has a character."""
    from matplotlib import font_manager

    codes = font_manager.get_font(font_manager.findfont(font_manager.FontProperties())).get_charmap()
    return lambda character: character.isprintable() and ord(character) in codes


def shorten_name(pieces):
    """Joins pieces to at most `LONGEST_NAME` characters, the middle ones left out; no piece is cut."""
    # The ends of class names tell more than their middles: "Brand-...-Juice".
    pieces = pieces[:LONGEST_NAME] + pieces[LONGEST_NAME:][-LONGEST_NAME:]
    if sum(map(len, pieces)) <= LONGEST_NAME:
        return "".join(pieces)
    while sum(map(len, pieces)) >= LONGEST_NAME:
        del pieces[len(pieces) // 2]
    pieces.insert((len(pieces) + 1) // 2, "…")
    return "".join(pieces)
