"""Tables in the dialects of spreadsheets, against Python's csv with the dialect told."""

import contextlib
import csv
import io
import os
import random
import time
import unicodedata

import numpy as np
import pytest

from jtln_tf.config import InputError
from jtln_tf.costs.matrix import load_cost_matrix
from jtln_tf.costs.metrics.taxonomy import read_parents
from jtln_tf.data import list_domain
from jtln_tf.data.sources.class_table import read_class_table
from jtln_tf.tables import read_rows

ROWS = [["path", "label"], ["wolf, gray", "Käse"], ["5;6", 'say "ah"'], ["x", "a\tb"], ["", "1,5 %"]]


def rows_of(path):
    return [row.trim(len(ROWS[0])) for row in read_rows(path, "A list")]


def write(path, content, encoding="utf-8"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def as_csv(rows, **dialect):
    text = io.StringIO(newline="")
    csv.writer(text, **dialect).writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_dialect_of_a_table(tmp_path, encoding, delimiter, end):
    text = as_csv(ROWS, delimiter=delimiter, lineterminator=end)
    text = f"{end}{delimiter}{end}{text}{delimiter * 3}{end}{end}".replace("Käse", "  Ka\u0308se ")
    expected = [[cell.strip() for cell in row] for row in ROWS]
    assert rows_of(write(tmp_path / "a.csv", text, encoding)) == expected
    assert rows_of(write(tmp_path / "a.csv", f"sep={delimiter}{end}{text}", encoding)) == expected


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ('"a" , "b"', ["a", "b"]),
        ('"a ""b""" ,"" ,', ['a "b"', ""]),
        ('5" pipe ,"a"" ,b"', ['5" pipe', 'a" ,b']),
        ('""" ,x" ,""""', ['" ,x', '"']),
        (' "a\nb" ,c', ["a\nb", "c"]),
        ('a""b" ,"c"', ['a""b"', "c"]),
    ],
)
def test_blanks_and_quotes(tmp_path, line, cells):
    assert rows_of(write(tmp_path / "a.csv", f"x,y,\n{line}\n"))[1] == cells


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8"])
@pytest.mark.parametrize("words", ["类猫狗一", "котпёс", "ねこ", "cat\u4e0a", "Ā\u0a0a\u2c2c", "ਬਲੀਸ"])
def test_two_byte_letters_of_any_script_without_a_mark(tmp_path, encoding, words):
    rows = [[words[::-1], words], *([word * 9, words + word] for word in words)] * 5
    assert rows_of(write(tmp_path / "a.csv", as_csv(rows), encoding)) == rows


def test_what_is_no_table(tmp_path):
    for content, reason in (('a,b\n"x\n', "unexpected end"), (b"K\xe4se,b\n", "Hint: save"), ("a\0,b\n", "zero byte")):
        with pytest.raises(InputError, match=rf"A list must be a UTF-8 table\. Received: .*{reason}"):
            rows_of(write(tmp_path / "a.csv", content))
    os.mkfifo(tmp_path / "pipe.csv")
    for name in (tmp_path / "pipe.csv", "/dev/zero", tmp_path):
        with pytest.raises(InputError, match="A list must be a plain file"):
            rows_of(name)
    os.truncate(tmp_path / "a.csv", 2**30)
    with pytest.raises(InputError, match="must have at most 268435456 bytes"):
        rows_of(tmp_path / "a.csv")


NAMES = [
    "cat",
    "wolf, gray",
    "a;b",
    "l'été",
    "Ka\u0308se",
    'say "ah"',
    "数字",
    "0.5",
    "3",
    "x y",
    "a\nb",
    '5" pipe',
    "É",
]


class Dialect:
    """How one table is written, chosen by chance."""

    def __init__(self, rng):
        self.delimiter, self.end = rng.choice(",;\t"), rng.choice(["\n", "\r\n", "\r"])
        self.encoding = rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-32"])
        self.pads, self.is_quoted = rng.choice([("",), ("", " ", "  ")]), rng.random() < 0.3
        self.has_comma, self.has_percent = rng.random() < 0.4, rng.random() < 0.2
        self.rng = rng

    def number(self, value):
        text = f"{value * 100:.6g} %" if self.has_percent else f"{value:.6g}"
        return text.replace(".", ",") if self.has_comma else text

    def write(self, rows):
        rng, blank, lines = self.rng, ["", self.delimiter * 2], []
        trailing = self.delimiter * rng.choice([0, 0, 1, 3])
        for row in rows:
            quoting = csv.QUOTE_ALL if self.is_quoted else csv.QUOTE_MINIMAL
            cells = [as_csv([[cell]], delimiter=self.delimiter, quoting=quoting).rstrip("\r\n") for cell in row]
            lines.append(
                self.delimiter.join(rng.choice(self.pads) + one + rng.choice(self.pads) for one in cells) + trailing
            )
        lines = rng.choices(blank, k=rng.randrange(3)) + lines + rng.choices(blank, k=rng.randrange(3))
        return (self.end.join(lines) + self.end * rng.randrange(2)).encode(self.encoding)

    def read(self, content):
        """The rows that Python's csv finds, or None; the oracle is told the dialect."""
        try:
            text = io.StringIO(content.decode(self.encoding), newline="")
            rows = list(csv.reader(text, delimiter=self.delimiter, skipinitialspace=True, strict=True))
        except (UnicodeError, csv.Error):
            return None
        return clean(rows)


def clean(rows):
    rows = [[unicodedata.normalize("NFC", cell.strip()) for cell in row] for row in rows]
    return [row for row in rows if any(row)]


def names(rng, count):
    return rng.sample(NAMES, count)


def make_costs(rng, dialect):
    sources, targets = names(rng, rng.randint(1, 5)), names(rng, rng.randint(1, 5))
    values = [[round(rng.random(), 3) for _ in targets] for _ in sources]
    corner = rng.choice(["", "source \\ target", "class"])
    return [[corner, *targets], *([one, *map(dialect.number, row)] for one, row in zip(sources, values, strict=True))]


def interpret_costs(rows):
    width = max(index for index, cell in enumerate(rows[0]) if cell) + 1
    assert not any(cell for row in rows for cell in row[width:]) and all(rows[0][1:width]) and rows[0][1:width]
    table = {}
    for row in rows[1:]:
        numbers = [float(cell.replace(",", ".").rstrip("% ")) / (100 if "%" in cell else 1) for cell in row[1:width]]
        assert len(numbers) == width - 1
        table[row[0]] = dict(zip(rows[0][1:], map(np.float32, numbers), strict=False))
    return table


def read_costs(path):
    matrix = load_cost_matrix(path)
    return {
        source: dict(zip(matrix.target_classes, row, strict=True))
        for source, row in zip(matrix.source_classes, matrix.values, strict=True)
    }


def make_classes(rng, dialect):
    columns = ["class", *names(rng, rng.randint(1, 3))]
    return [columns, *([one, *rng.choices(NAMES, k=len(columns) - 1)] for one in names(rng, rng.randint(1, 6)))]


def interpret_classes(rows):
    columns = rows[0][: max(index for index, cell in enumerate(rows[0]) if cell) + 1]
    assert all(len(row) <= len(columns) or not any(row[len(columns) :]) for row in rows)
    assert columns[0]
    named = [index for index, name in enumerate(columns) if name]
    return {row[0]: {columns[index]: "".join(row[index : index + 1]) for index in named} for row in rows[1:]}


def make_tree(rng, dialect):
    nodes = names(rng, rng.randint(3, 8))
    rows = [[child, rng.choice(nodes[:index] or [""])] for index, child in enumerate(nodes)]
    return [*rng.choice([[["child", "parent"]], []]), *rows]


def interpret_tree(rows):
    # A first row of two names that stand nowhere else is taken for a header.
    first, others = rows[0][:2], {cell for row in rows[1:] for cell in row[:2]}
    return {
        row[0]: row[1] or None
        for row in rows[first == ["child", "parent"] or (all(first) and others.isdisjoint(first)) :]
    }


def make_list(rng, dialect):
    rows = [
        [f"{index}/{rng.choice(NAMES)}.png".replace("\n", ""), rng.choice(NAMES)] for index in range(rng.randint(1, 6))
    ]
    return [*rng.choice([[["path", "label"]], []]), *rows]


def interpret_list(rows):
    assert all(len(row) > 1 for row in rows)
    # A row that repeats another counts once.
    rows = rows[rows[0][:2] == ["path", "label"] :]
    return list(map(list, dict.fromkeys((os.path.normpath(row[0]), row[1]) for row in rows)))


def read_list(path):
    listing = list_domain(f"list:{path}")
    examples = listing.splits["train"]
    return [
        [os.path.relpath(image, path.parent), listing.class_names[label]]
        for image, label in zip(examples.images, examples.labels, strict=True)
    ]


KINDS = {
    "costs": (make_costs, interpret_costs, read_costs),
    "classes": (make_classes, interpret_classes, read_class_table),
    "tree": (make_tree, interpret_tree, read_parents),
    "list": (make_list, interpret_list, read_list),
}


def damage(rng, content, encoding):
    """Changes bytes, or letters if a letter has several bytes, of which nearly all make other letters."""
    is_wide = not encoding.startswith("utf-8")
    content = list(content.decode(encoding)) if is_wide else [bytes([one]) for one in content]
    bits = ['"', ",", ";", "\n", "\0", "9" * 500, "\u0308"]
    bits = bits if is_wide else [*(bit.encode() for bit in bits), b"\xff", bytes([rng.randrange(256)])]
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(content) + 1)
        change = rng.choice(["cut", "put", "drop", "twice"])
        if change == "cut":
            del content[place:]
        elif change == "put":
            content.insert(place, rng.choice(bits))
        elif change == "drop":
            del content[place : place + rng.randint(1, 8)]
        else:
            content[place:place] = content[place : place + rng.randint(1, 40)]
    return "".join(content).encode(encoding) if is_wide else b"".join(content)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_tables_by_chance(tmp_path, kind, monkeypatch):
    """Right tables give their values; damaged ones their values or one line, and soon."""
    make, interpret, read = KINDS[kind]
    monkeypatch.setattr("os.path.isfile", lambda path: True)
    num_same = 0
    for seed in range(500):
        rng = random.Random(f"{kind} {seed}")
        dialect = Dialect(rng)
        made = make(rng, dialect)
        content = dialect.write(made)
        is_damaged = seed % 2
        path = write(
            tmp_path / rng.choice(["a.csv", "A.CSV"]), damage(rng, content, dialect.encoding) if is_damaged else content
        )
        rows, expected = dialect.read(path.read_bytes()) if is_damaged else clean(made), None
        with contextlib.suppress(*(AssertionError, ValueError, IndexError, TypeError) if is_damaged else ()):
            expected = interpret(rows)
        start = time.monotonic()
        try:
            found = read(path)
        except InputError as error:
            assert is_damaged and "\n" not in str(error), (seed, content)
            continue
        assert time.monotonic() - start < 2
        assert not expected or found == expected, (seed, path.read_bytes())
        num_same += bool(expected)
    assert num_same > 250
