"""The noun and verb files of WordNet 3.0: synsets by name, and their hypernyms."""

import pathlib
import re

from jtln_tf.config import InputError

_FILES = ("data.noun", "data.verb", "index.noun", "index.verb")
# ImageNet's names, which some data sets extend with words, as in n02085620-Chihuahua; and those of NLTK.
_SYNSET_OFFSET = re.compile(r"(n[0-9]{8})(?:[-_ ].*)?")
_SYNSET_NAME = re.compile(r"(.+)\.([nv])\.0*([1-9][0-9]*)")


def read_wordnet(folder: pathlib.Path) -> dict[str, bytes]:
    """Reads the files of WordNet 3.0, by name; raises `InputError` if the folder does not hold them."""
    missing = [name for name in _FILES if not (folder / name).is_file()]
    files = {} if missing else {name: (folder / name).read_bytes() for name in _FILES}
    # ImageNet names synsets by their offsets in the files of this version.
    if missing or b"WordNet 3.0 Copyright" not in files["data.noun"][:4096]:
        reason = f"without {missing[0]}" if missing else "another version"
        raise InputError(f"`cost_taxonomy` must name the folder of WordNet 3.0. Received: {str(folder)!r} ({reason}).")
    return files


def find_synset(files: dict[str, bytes], node: str, kind: str) -> str:
    """Returns the synset (`n01440764`) that the name of a source or target class means, or raises `InputError`."""
    synset = None
    if match := _SYNSET_OFFSET.fullmatch(node):
        synset = match[1]
    elif match := _SYNSET_NAME.fullmatch(node):
        lemma, pos, sense = match.groups()
        synset = _find_sense(files["index.noun" if pos == "n" else "index.verb"], lemma.lower(), pos, int(sense))
    if synset is None or _read_line(files, synset) is None:
        raise InputError(
            "WordNet must hold every class, as a noun or verb named as in n01440764 or dog.n.01. "
            f"Received: {kind} class {node!r}."
        )
    return synset


def _find_sense(index, lemma, pos, sense):
    start = index.find(f"\n{lemma} {pos} ".encode())
    if start < 0:
        return None
    # The line holds lemma, part of speech, number of senses, ..., and an offset for each sense.
    fields = index[start + 1 : index.find(b"\n", start + 1)].decode().split()
    offsets = fields[-int(fields[2]) :]
    return f"{pos}{offsets[sense - 1]}" if sense <= len(offsets) else None


def _read_line(files, synset):
    data, offset = files["data.noun" if synset[0] == "n" else "data.verb"], synset[1:]
    start = int(offset)
    # A line starts with its own offset.
    return data[start : data.find(b"\n", start)] if data.startswith(f"{offset} ".encode(), start) else None


def read_hypernyms(files: dict[str, bytes], synset: str) -> tuple[str, ...]:
    """Returns the synsets directly above a synset."""
    # Before the gloss stand pointers: a symbol, an offset, a part of speech and, between whole synsets, 0000.
    fields = _read_line(files, synset).partition(b"|")[0].decode()
    return tuple(pos + offset for offset, pos in re.findall(r" @i? ([0-9]{8}) ([nv]) 0000", fields))
