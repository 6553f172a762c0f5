import numpy as np
import pytest

from jtln_tf.config import InputError, parse_domain_spec
from jtln_tf.data.examples import Examples
from jtln_tf.data.sources.listing import Listing, select_classes

CLASSES = ("Apple_Fuji", "Apple_Gala", "Leek", "Milk", "Salt, fine", "a1", "a[1]")
TABLE = {
    "Apple_Fuji": {"family": "Fruit", "kind": "old"},
    "Apple_Gala": {"family": "Fruit", "kind": "new"},
    "Leek": {"family": "Vegetables", "kind": "new"},
    "Milk": {"family": "Packages"},
}
LABELS = np.arange(14, dtype=np.int32)[::-1] % 7


def select(options, kind="folder"):
    names = np.array([f"image {row}" for row in range(14)])
    train = Examples(np.arange(14, dtype=np.uint8).reshape(14, 1, 1, 1), LABELS, names)
    listing = Listing(CLASSES, {"train": train, "test": train.take([3])}, class_table=TABLE)
    return select_classes(listing, parse_domain_spec(f"{kind}:x{options}"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("?classes=Leek,Apple_Gala", ["Apple_Gala", "Leek"]),
        ("?exclude=Apple_*,Milk,a*", ["Leek", "Salt, fine"]),
        ("?classes=Apple_*,Leek&exclude=*_Gala", ["Apple_Fuji", "Leek"]),
        ("?classes=Salt%2C fine", ["Salt, fine"]),
        ("?classes=[LM]*", ["Leek", "Milk"]),
        # A name that is a pattern too.
        ("?classes=a[1]", ["a1", "a[1]"]),
        ("?family=Fruit,Packages&exclude=*_Fuji", ["Apple_Gala", "Milk"]),
        ("?family=Fruit&kind=new", ["Apple_Gala"]),
    ],
)
def test_choice_of_classes(options, expected):
    listing = select(options)
    assert list(listing.class_names) == expected
    rows = [row for row, label in enumerate(LABELS) if CLASSES[label] in expected]
    train = listing.splits["train"]
    assert train.images.values.ravel().tolist() == rows and train.names.tolist() == [f"image {row}" for row in rows]
    assert [expected[label] for label in train.labels] == [CLASSES[LABELS[row]] for row in rows]
    assert len(listing.splits["test"]) == (CLASSES[LABELS[3]] in expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("?classes=Apple_Galla", "`classes` must name classes.*Apple_Gala.*Received: 'Apple_Galla'"),
        ("?classes=Leek&exclude=L*", "at least one class. Received: none left"),
        ("?famly=Fruit", r"or a column of its class table \(family, kind\). Received: 'famly'"),
        ("?family=Fruit,Meat", "`family` must be a value in its class table, for example .* Received: 'Meat'"),
    ],
)
def test_choices_that_do_not_fit(options, message):
    with pytest.raises(InputError, match=message):
        select(options)
