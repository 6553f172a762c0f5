"""Class costs from words: the names and descriptions of the classes."""

import pathlib
import re
import unicodedata

import numpy as np

from jtln_tf.config import InputError, MissingInputError

_WORD = r"[^\W_]+"
_NAME_SEPARATORS = r"[-_./\s]+"
_WORD_VECTOR_SUFFIXES = (".txt", ".vec")
_TRANSFORMER = "sentence-transformers:"


def class_text(name, description=""):
    """Returns the text of a class: the words of its name, split at `-_./`, spaces and CamelCase, and its description.

    The name is there even where there is a description: it is often the one word that two related classes share.
    """
    # File systems differ in how they write accents.
    name, description = unicodedata.normalize("NFC", name), unicodedata.normalize("NFC", description)
    parts = [piece for part in re.split(_NAME_SEPARATORS, name) for piece in _split_camel_case(part)]
    return " ".join([*parts, description]).strip()


def _split_camel_case(word):
    # A capital begins a word after a small letter (bellPepper) and before one (UHTMilk).
    is_start = [
        word[i].isupper() and (word[i - 1].islower() or word[i + 1 : i + 2].islower()) for i in range(1, len(word))
    ]
    starts = [0, *(i for i, starts_word in enumerate(is_start, 1) if starts_word), len(word)]
    return [word[start:stop] for start, stop in zip(starts, starts[1:], strict=False) if stop > start]


def text_cost(source_texts, target_texts, encoder="tfidf"):
    """One minus the cosine similarity of the texts of each source and each target class.

    `tfidf` weighs the words, pairs of words and pieces of words (3 to 5 letters) that classes share by how few classes
    have them, and needs no download. The other encoders also know which different words are related: the mean of the
    word vectors of a text (a `.txt` or `.vec` file of GloVe or word2vec), or a pretrained sentence encoder.

    Args:
        source_texts: Dict from class name to text (see `class_text`), in the order of the classes.
        target_texts: The same of the target classes.
        encoder: `tfidf`, the path of a word vector file, or `sentence-transformers:` with a model's name or path.

    Returns:
        float64 [n, m] in [0, 2]: 0 for identical texts; with `tfidf` at most 1, for texts that share nothing.

    Raises:
        InputError: If there is no such encoder, its package is not installed or its file damaged, or a text has no
            word (that the encoder knows).
        MissingInputError: If the word vector file does not exist.

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
    encoded = _choose_encoder(encoder)(named)
    similarity = cosine_similarity(encoded[: len(source_texts)], encoded[len(source_texts) :])
    # To 12 digits: identical texts cost 0, whatever the rounding of their vectors.
    return np.clip(1.0 - similarity, 0.0, 2.0).round(12)


def _choose_encoder(encoder):
    if encoder == "tfidf":
        return _encode_with_tfidf
    if encoder.startswith(_TRANSFORMER) and encoder != _TRANSFORMER:
        return lambda named: _encode_with_transformer(named, encoder.removeprefix(_TRANSFORMER))
    if encoder.endswith(_WORD_VECTOR_SUFFIXES):
        return lambda named: _encode_with_word_vectors(named, pathlib.Path(encoder))
    raise InputError(
        "`cost_text` must be tfidf, a word vector file (.txt, .vec) or sentence-transformers:NAME. "
        f"Received: {encoder!r}."
    )


def _encode_with_tfidf(named):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    # No list of stop words: tf-idf weighs them down in any language.
    union = FeatureUnion(
        [
            ("words", TfidfVectorizer(token_pattern=_WORD, ngram_range=(1, 2), sublinear_tf=True)),
            # Pieces of words see through plurals and compounds: tomatoes and Beef Tomato, Soyghurt and Yoghurt.
            ("letters", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)),
        ]
    )
    return union.fit_transform([text for _, _, text in named])


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
            f"({_first_line(error)})."
        ) from error
    return np.asarray(encoder.encode([text for _, _, text in named], normalize_embeddings=True), np.float64)


def _encode_with_word_vectors(named, path):
    words = [re.findall(_WORD, text) for _, _, text in named]
    wanted = {form for text in words for word in text for form in (word, word.lower())}
    vectors = _read_word_vectors(path, wanted)
    encoded = []
    for (kind, name, _), text in zip(named, words, strict=True):
        known = [vectors.get(word, vectors.get(word.lower())) for word in text]
        known = [vector for vector in known if vector is not None]
        if not known:
            raise InputError(
                f"`cost_text` must know a word of every class. Received: {str(path)!r}, which has none of {kind} class "
                f"{name!r} ({', '.join(text[:3])})."
            )
        encoded.append(np.mean(known, axis=0))
    return np.stack(encoded)


def _read_word_vectors(path, wanted):
    if not path.is_file():
        raise MissingInputError(f"`cost_text` must name an existing file. Received: {str(path)!r}.")
    vectors, dimension = {}, 0
    # Line by line, as such files hold gigabytes. A word that is no UTF-8 is none of ours.
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
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
            vector = _parse_vector(numbers, dimension, f"line {number} of {str(path)!r}")
            length = np.linalg.norm(vector)
            if word in wanted and length > 0:
                vectors.setdefault(word, vector / length)
    return vectors


def _parse_vector(numbers, dimension, place):
    wrong = [field for field in numbers if not _is_number(field)]
    if wrong or len(numbers) != dimension:
        received = repr(wrong[0]) if wrong else f"{len(numbers)} numbers"
        raise InputError(
            f"`cost_text` must name a file of words, each with {dimension} numbers. Received: {received} in {place}."
        )
    return np.array(numbers, np.float64)


def _is_number(field):
    try:
        return bool(np.isfinite(float(field)))
    except ValueError:
        return False


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
