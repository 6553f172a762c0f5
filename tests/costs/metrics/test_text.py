import math
import sys
import types
import unicodedata

import numpy as np
import pytest

from jtln_tf.config import InputError
from jtln_tf.costs.metrics.text import class_text, text_cost

SOURCE = {
    "Beef-Tomato": "Beef Tomato An extra large tomato for hamburgers",
    "Soy-Milk": "Soy Milk Soy based drink, enriched with vitamins",
    "Käse": "Käse jung und mild, Käse eben",
}
TARGET = {"Vine-Tomato": "Vine Tomato Round tomatoes with vines", "Oat-Drink": "Oat Drink A drink based on oats"}
VECTORS = {
    "tomato": [1.0, 0.0, 0.5],
    "milk": [0.0, 2.0, 0.0],
    "oat": [0.1, 0.9, -0.3],
    "drink": [-0.2, 0.7, 0.4],
    "Vine": [0.3, -0.1, 8.0],
    "vine": [-9.0, 0.0, 0.0],
    "the": [5.0, 5.0, 5.0],
}


def cosine(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True)) / math.sqrt(sum(a * a for a in x) * sum(b * b for b in y))


@pytest.mark.parametrize(
    ("name", "description", "expected"),
    [
        ("bell_pepper.red/large 2", "", "bell pepper red large 2"),
        ("bellPepper", "A drink - of OatFlakes.", "bell Pepper A drink - of OatFlakes."),
        ("UHTMilk", "", "UHT Milk"),
        ("--Oat--n01440764", "", "Oat n01440764"),
        ("KäseÄlter", "", "Käse Älter"),
        ("-_./ ", "", ""),
    ],
)
def test_words_of_a_class(name, description, expected):
    assert class_text(name, description) == expected
    # Accents may be characters of their own.
    assert class_text(unicodedata.normalize("NFD", name), description) == expected


def test_tfidf_finds_shared_words_pairs_and_pieces():
    cost = text_cost(SOURCE, TARGET)
    assert cost.shape == (3, 2) and cost.dtype == np.float64 and cost.min() > 0 and cost.max() <= 1
    np.testing.assert_array_equal(cost.argmin(axis=0), [0, 1])
    # One direction by words and pairs, one by pieces; a rare word counts more than a frequent one, by its logarithm.
    idf = [math.log(4 / (1 + count)) + 1 for count in (1, 2, 3)]
    cost = text_cost({"a": "x y", "b": "x"}, {"c": "z x"})
    words = cosine([idf[2], idf[0], idf[0], 0, 0], [idf[2], 0, 0, idf[0], idf[0]])
    # " x " is a piece of 3 letters, as are the others.
    pieces = cosine([idf[2], idf[0], 0], [idf[2], 0, idf[0]])
    np.testing.assert_allclose(cost[0, 0], 1 - (words + pieces) / 2, rtol=0, atol=1e-11)
    # Identical texts cost exactly 0, unrelated ones 1.
    texts = {"a": "red bell pepper", "b": "猫", "c": "x", "d": "ÅÄÖ åäö"}
    np.testing.assert_array_equal(text_cost(texts, texts), 1.0 - np.eye(4))


@pytest.mark.parametrize(("suffix", "header"), [(".txt", True), (".vec", False)])
def test_word_vectors_agree_with_loops(tmp_path, suffix, header):
    # Lower-case where the word itself is missing; "Vine" has its own vector, and unknown words count for nothing.
    source = {"a": "Tomato of Tomato milk", "b": "Vine"}
    target = {"c": "OAT drink, unheard", "d": "milk", "e": "vine"}
    used = {"a": ["tomato", "tomato", "milk"], "b": ["Vine"], "c": ["oat", "drink"], "d": ["milk"], "e": ["vine"]}
    units = {word: np.array(vector) / math.hypot(*vector) for word, vector in VECTORS.items()}
    means = {name: np.mean([units[word] for word in words], axis=0) for name, words in used.items()}
    path = tmp_path / f"vectors{suffix}"
    lines = [f"{word} {' '.join(map(str, vector))}\n" for word, vector in VECTORS.items()]
    path.write_text("7 3\n" * header + "".join(lines))
    cost = text_cost(source, target, str(path))
    expected = [[1 - cosine(means[row], means[column]) for column in target] for row in source]
    np.testing.assert_allclose(cost, expected, rtol=0, atol=1e-11)
    assert cost.max() > 1


def test_word_vector_files_as_they_are_published(tmp_path):
    path = tmp_path / "vectors.txt"
    # Entries of several words, blanks at the end of lines, words that are no UTF-8, repeated words.
    path.write_bytes(
        b"2 2\n</s> 1 0 \nat name@domain.com 9 9\nat 0 1 \n\xff\xfe 1 1\nof . 3 3\nof 1 0\nof 7 7\nbad 1 2 3 4\n\n"
    )
    np.testing.assert_allclose(text_cost({"a": "at"}, {"b": "of", "c": "at"}, str(path)), [[1, 0]], atol=1e-12)


@pytest.mark.parametrize(
    ("texts", "encoder", "message"),
    [
        ({"dumb": "... !?"}, "tfidf", "must find a word in every class. Received: source class 'dumb' with none"),
        (SOURCE, "glove.bin", r"must be tfidf, a word .* or sentence-transformers:NAME. Received: 'glove.bin'\.$"),
        (SOURCE, "sentence-transformers:", "must be tfidf, .* Received: 'sentence-transformers:'"),
    ],
)
def test_what_cannot_be_compared(texts, encoder, message):
    with pytest.raises(InputError, match=f"`cost_text` {message}"):
        text_cost(texts, TARGET, encoder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat 1 2\ndog 1\n", "each with 2 numbers. Received: 1 numbers in line 2 of '.*vectors.txt'"),
        ("cat 1 2\ndog 1 big\n", "each with 2 numbers. Received: 'big' in line 2 of "),
        ("cat\n", "each with 1 numbers. Received: 0 numbers in line 1 of "),
        ("dog 1 2\nnull 0 0\n", r"of every class. Received: .*none of source class 'cat' \(Null, cat\)\.$"),
    ],
)
def test_damaged_word_vectors(tmp_path, text, message):
    path = tmp_path / "vectors.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=f"`cost_text` must .*{message}"):
        text_cost({"cat": "Null cat"}, {"dog": "dog"}, str(path))


class LetterCounts:
    """In place of a sentence encoder: the float32 unit vector of the counts of the letters."""

    def __init__(self, name):
        if name != "some/model:x":
            raise OSError(f"\nno model {name}\nsee there")

    def encode(self, texts, normalize_embeddings):
        counts = np.array([[text.count(letter) for letter in "abc"] for text in texts], "float32")
        assert isinstance(texts, list) and normalize_embeddings
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def test_sentence_transformer(monkeypatch):
    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = LetterCounts
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    cost = text_cost({"a": "aab", "b": "abc"}, {"c": "bbc"}, "sentence-transformers:some/model:x")
    # The encoder is single precision.
    np.testing.assert_allclose(cost[:, 0], [1 - 2 / 5, 1 - 3 / math.sqrt(15)], rtol=0, atol=1e-6)
    with pytest.raises(InputError, match=r"that sentence-transformers can load. Received: 'x' \(no model x\)"):
        text_cost(SOURCE, TARGET, "sentence-transformers:x")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"needs the package sentence-.*: pip install sentence-transformers\.$"):
        text_cost(SOURCE, TARGET, "sentence-transformers:all-MiniLM-L6-v2")
