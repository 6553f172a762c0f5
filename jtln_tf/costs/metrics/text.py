"""Class costs from words: the names and descriptions of the classes."""

import re

import numpy as np
from absl import logging

from jtln_tf.config import InputError, normalize_name
from jtln_tf.files import first_line

_WORD = r"[^\W_]+"
_NAME_SEPARATORS = r"[-_./\s]+"
_WORD_VECTOR_SUFFIXES = (".txt", ".vec")
_TRANSFORMER = "sentence-transformers:"


def class_text(name: str, description: str = "") -> str:
    """Returns the text of a class: the words of its name, split at `-_./`, spaces and CamelCase, and its description.

    The name stays even with a description, because it is often the one word that two related classes share.
    """
    # File systems differ in how they write accents.
    name, description = normalize_name(name), normalize_name(description)
    spaced = re.sub(_NAME_SEPARATORS, " ", name)
    # A capital starts a word if a small letter stands before it (bellPepper) or after it (UHTMilk).
    letters = [
        f" {letter}" if letter.isupper() and (before.islower() or after.islower()) else letter
        for before, letter, after in zip(f" {spaced}", spaced, f"{spaced[1:]} ", strict=False)
    ]
    return " ".join(["".join(letters).strip(), description]).strip()


def text_cost(source_texts: dict[str, str], target_texts: dict[str, str], encoder: str = "tfidf") -> np.ndarray:
    """Computes one minus the cosine similarity of the texts of each source and each target class.

    `tfidf` gives more weight to words, pairs of words and pieces of words (3 to 5 letters) that few classes have, and
    needs no download. The other encoders also know which different words are related: the mean of the word vectors of a
    text (a `.txt` or `.vec` file of GloVe or word2vec), or a pretrained sentence encoder.

    Takes dicts from class name to text (see `class_text`), and `tfidf`, the path of a word vector file, or
    `sentence-transformers:` and a model's name or path. Returns float64 [n, m] in [0, 2]: 0 for identical texts; with
    `tfidf` at most 1, for texts that share nothing. Raises `InputError` if the encoder is unknown, its package is
    missing or its file damaged, or a text has no word that the encoder knows.

    Reference:
        Sparck Jones, 1972, A statistical interpretation of term specificity, Journal of Documentation 28 (tf-idf);
        Pennington et al., 2014, GloVe: Global Vectors for Word Representation, EMNLP; Reimers and Gurevych, 2019,
        arXiv:1908.10084.
    """
    from sklearn.metrics.pairwise import cosine_similarity

    named = [("source", *item) for item in source_texts.items()] + [("target", *item) for item in target_texts.items()]
    for kind, name, text in named:
        if not re.search(_WORD, text):
            raise InputError(f"`cost_text` must find a word in every class. Received: {kind} class {name!r} with none.")
    encoded = _encode(named, encoder)
    similarity = cosine_similarity(encoded[: len(source_texts)], encoded[len(source_texts) :])
    # Rounded, so that identical texts cost exactly 0.
    return np.clip(1.0 - similarity, 0.0, 2.0).round(12)


def compute_text(evidence) -> tuple[np.ndarray, dict]:
    """Compares the names and descriptions of the classes."""
    texts, described = [], {}
    for side, domain in evidence.domains.items():
        table, names = evidence.class_table[side], domain.class_names
        descriptions = {name: table.get(name, {}).get("description", "") for name in names}
        texts.append({name: class_text(name, description) for name, description in descriptions.items()})
        bare = [name for name, description in descriptions.items() if not description]
        described[f"described_{side}_classes"] = len(names) - len(bare)
        if table and bare:
            logging.warning(
                "%d of %d %s classes have no description in the class table, %r among them: only names are compared.",
                *(len(bare), len(names), side, bare[0]),
            )
    encoder = evidence.cost.text
    return text_cost(*texts, encoder), {"text": encoder, **described}


def _encode(named, encoder):
    if encoder == "tfidf":
        return _encode_with_tfidf(named)
    if encoder.startswith(_TRANSFORMER) and encoder != _TRANSFORMER:
        return _encode_with_transformer(named, encoder.removeprefix(_TRANSFORMER))
    if encoder.endswith(_WORD_VECTOR_SUFFIXES):
        return _encode_with_word_vectors(named, encoder)
    raise InputError(
        "`cost_text` must be tfidf, a word vector file (.txt, .vec) or sentence-transformers:NAME. "
        f"Received: {encoder!r}."
    )


def _encode_with_tfidf(named):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    # No list of stop words: tf-idf gives them little weight in any language.
    words = TfidfVectorizer(token_pattern=_WORD, ngram_range=(1, 2), sublinear_tf=True)
    # Pieces of words match plurals and compounds: tomatoes and Beef Tomato, Soyghurt and Yoghurt.
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    return make_union(words, letters).fit_transform([text for _, _, text in named])


def _encode_with_transformer(named, model):
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise InputError(
            f"`cost_text`={_TRANSFORMER}{model} needs the package sentence-transformers: "
            "pip install sentence-transformers."
        ) from error
    try:
        encoder = SentenceTransformer(model)
    except (OSError, ValueError) as error:
        raise InputError(
            f"`cost_text` must name a model that sentence-transformers can load. Received: {model!r} "
            f"({first_line(error)})."
        ) from error
    return np.asarray(encoder.encode([text for _, _, text in named], normalize_embeddings=True), np.float64)


def _encode_with_word_vectors(named, path):
    words = [re.findall(_WORD, text) for _, _, text in named]
    wanted = {form for text in words for word in text for form in (word, word.lower())}
    vectors = _read_word_vectors(path, wanted)
    encoded = []
    for (kind, name, _), text in zip(named, words, strict=True):
        forms = [word if word in vectors else word.lower() for word in text]
        known = [vectors[form] for form in forms if form in vectors]
        if not known:
            raise InputError(
                f"`cost_text` must know a word of every class. Received: {path!r}, which has none of {kind} class "
                f"{name!r} ({', '.join(text[:3])})."
            )
        encoded.append(np.mean(known, axis=0))
    return np.stack(encoded)


def _read_word_vectors(path, wanted):
    vectors, dimension = {}, 0
    # Line by line, because such files hold gigabytes. No class name matches a word that is not UTF-8.
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, 1):
            word, _, rest = line.partition(" ")
            if dimension and word not in wanted:
                continue
            numbers = rest.split()
            if number == 1 and len(numbers) == 1 and word.isdecimal() and numbers[0].isdecimal():
                dimension = int(numbers[0])
                continue
            # GloVe has entries of several words, such as "at name@domain.com".
            if dimension and len(numbers) > dimension and not _is_number(numbers[0]):
                continue
            dimension = dimension or len(numbers) or 1
            vector = _parse_vector(numbers, dimension, f"line {number} of {path!r}")
            length = np.linalg.norm(vector)
            if word in wanted and length > 0:
                vectors.setdefault(word, vector / length)
    return vectors


def _parse_vector(numbers, dimension, place):
    wrong = [repr(field) for field in numbers if not _is_number(field)]
    if wrong or len(numbers) != dimension:
        received = (wrong or [f"{len(numbers)} numbers"])[0]
        raise InputError(
            f"`cost_text` must name a file of words, each with {dimension} numbers. Received: {received} in {place}."
        )
    return np.array(numbers, np.float64)


def _is_number(field):
    try:
        return bool(np.isfinite(float(field)))
    except ValueError:
        return False
