"""Specifications by chance: right ones give what the grammar put in, wrong ones one line, and soon."""

import contextlib
import json
import math
import random
import time
import unicodedata

import pytest

from jtln_tf.config import (
    AUGMENTATIONS,
    KINDS,
    AugmentationSpec,
    DomainSpec,
    InputError,
    parse_augmentation,
    parse_domain_spec,
)
from jtln_tf.costs.spec import COST_METRICS, CostSpec, parse_cost_spec
from jtln_tf.experiment.config import ExperimentConfig
from jtln_tf.methods import METHODS

NAMES = [
    "cat",
    "wolf, gray",
    "a&b",
    "l'été",
    "Ka\u0308se",
    "50%",
    "数字",
    "x=y",
    "a+b",
    "C#?",
    "Greek_*",
    "a/b",
    "[x]",
    "=",
    "\U0001f600",
]
COLUMNS = ["family", "coarse class", "E\u0301tat", "a=b", "name", "text"]


def quote(rng, name, special):
    """A name percent-encoded where it must be, and elsewhere by chance."""
    encoded = ("".join(f"%{byte:02X}" for byte in one.encode()) for one in name)
    return "".join(
        code if one in special or rng.random() < 0.2 else one for one, code in zip(name, encoded, strict=True)
    )


def make_domain(rng):
    kind, name = rng.choice(list(KINDS)), rng.choice(["photos", "C:/data/Office 31", "a&b=c,d", "Ka\u0308se/x", "ü"])
    options = {
        "per_class": lambda: rng.choice([1, 7, 10**9]),
        "test_fraction": lambda: rng.choice([0.0, 0.25, 0.999]),
        "validation_fraction": lambda: rng.choice([0.0, 1e-3, 0.5]),
        "crop_bottom": lambda: rng.choice([0, 20, 100_000]),
        "class_depth": lambda: rng.choice([1, 2, 20]),
    }
    known = {"builtin": 3, "folder": 5}.get(kind, 4)
    numbers = {key: options[key]() for key in rng.sample(list(options)[:known], rng.randrange(known))}
    names = {key: rng.sample(NAMES, rng.randint(1, 4)) for key in rng.sample(["classes", "exclude"], rng.randrange(3))}
    columns = rng.sample(COLUMNS, rng.randrange(3)) if kind != "builtin" else []
    filters = {column: rng.sample(NAMES, rng.randint(1, 3)) for column in columns}
    items = [f"{key}={rng.choice(['', '00', ' '])}{value}" for key, value in numbers.items()]
    for key, values in {**names, **filters}.items():
        items.append(f"{quote(rng, key, '%&=')}={','.join(quote(rng, one, '%&,') for one in values)}")
    # Filters keep their order.
    marks = rng.sample([False] * (len(items) - len(filters)) + [True] * len(filters), len(items))
    rest, last = iter(items[: len(items) - len(filters)]), iter(items[len(items) - len(filters) :])
    text = (
        f"{kind}:{name}"
        + rng.choice(["?", "?&"]) * bool(items)
        + "&".join(next(last if one else rest) for one in marks)
    )
    nfc = {
        key: tuple(unicodedata.normalize("NFC", one) for one in values) for key, values in {**names, **filters}.items()
    }
    chosen = tuple((unicodedata.normalize("NFC", column), nfc[column]) for column in columns)
    return text, DomainSpec(text, kind, name, **numbers, **{key: nfc[key] for key in names}, filters=chosen)


def make_costs(rng):
    if rng.random() < 0.1:
        return "online", CostSpec("online", ((1.0, "online"),), False)
    files = ["a.npz", "x y/été.CSV", "mkmmd/a+b+c.npz", "2*3.tsv", "+.csv", "数字.NPZ"]
    names = rng.choices([*COST_METRICS, *files], k=rng.randint(1, 4))
    weights = [rng.choice([1.0, 0.5, 1e-300, 3.0]) if names[1:] else 1.0 for _ in names]
    # A file with a star needs a weight before it.
    parts = [
        name
        if weight == 1 and "*" not in name and rng.random() < 0.7
        else f"{rng.choice(['', '+'] if not index else [''])}{weight!r}*{name}"
        for index, (name, weight) in enumerate(zip(names, weights, strict=True))
    ]
    is_shuffled = rng.random() < 0.3
    text = "shuffled:" * is_shuffled + "+".join(parts)
    return text, CostSpec(text, tuple(zip(weights, names, strict=True)), is_shuffled)


NUMBERS = {
    "rotate": [15.0, 180.0],
    "zoom": [0.2, 0.9],
    "colour": [0.3, 1e-9],
    "erase": [0.5, 1.0],
    "randaugment": [2, 10],
}
NUMBERS |= {"mixup": [0.2, 10.0], "crop": [None], "flip": [None]}
SECOND = {"colour": [0.0, 0.5], "randaugment": [0.3, 1.0]}


def make_augmentation(rng):
    """The first number of each list is the default, which may be left out."""
    parts, found = [], {}
    for name in rng.sample(AUGMENTATIONS, rng.randint(1, len(AUGMENTATIONS))):
        values = [rng.choice(numbers[name]) for numbers in (NUMBERS, SECOND) if name in numbers]
        values = [value for value in values if value is not None]
        given = values
        while given and given[-1] == (NUMBERS, SECOND)[len(given) - 1][name][0] and rng.random() < 0.5:
            given = given[:-1]
        parts.append(":".join([name, *map(str, given)]))
        found[name] = tuple(values)
    text, (mixup,) = ",".join(parts), found.pop("mixup", (0.0,))
    return text, AugmentationSpec(text, tuple(found.items()), mixup)


def make_config(rng):
    values = ExperimentConfig(method=METHODS[rng.choice(list(METHODS))]()).to_values()
    values["data"]["source"], values["data"]["source_augmentation"] = make_domain(rng)[0], make_augmentation(rng)[0]
    values["training"]["seed"] = rng.randrange(2**32)
    return json.dumps(values, ensure_ascii=rng.random() < 0.5), values


PARSERS = {
    "domain": (make_domain, parse_domain_spec),
    "costs": (make_costs, parse_cost_spec),
    "augmentation": (make_augmentation, parse_augmentation),
    "config": (make_config, lambda text: ExperimentConfig.from_json(text).to_values()),
}
BITS = [*"&=,?:%+*/.\n\0\x1b", "\udcff", "%00", "%FF", "9" * 5000, "-1", "nan", "inf", "1e999", "1_0", "٣", "x" * 10**5]
BITS += ["None", "[" * 10**5, '{"a":' * 10**4, "true", '"', "null", "{}", "[1]", "1e30", ""]


def mutate(rng, text):
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(text) + 1)
        end = rng.choice([start, start, start + rng.randint(1, 6), len(text)])
        text = text[:start] + rng.choice([*BITS, text[start : start + 20]]) + text[end:]
    return text


def is_sane(found):
    """Whether a value could be a right one: numbers are finite, and names hold what text can."""
    if isinstance(found, DomainSpec):
        assert found.kind in KINDS and found.name and (found.per_class or 1) > 0 and 1 <= found.class_depth <= 20
        assert 0 <= found.validation_fraction < 1 and 0 <= (found.test_fraction or 0) < 1 and found.crop_bottom >= 0
    if isinstance(found, CostSpec):
        assert found.terms and all(0 < weight < math.inf for weight, _ in found.terms)
    if isinstance(found, AugmentationSpec):
        assert all(math.isfinite(one) for _, numbers in found.operations for one in (*numbers, found.mixup))
    return True


@pytest.mark.slow
@pytest.mark.parametrize("kind", PARSERS)
def test_specifications_by_chance(kind):
    make, parse = PARSERS[kind]
    num_refused = 0
    for seed in range(2000):
        rng = random.Random(f"{kind} {seed}")
        text, expected = make(rng)
        assert parse(text) == expected, seed
        start, found = time.process_time(), None
        with contextlib.suppress(InputError):
            found = parse(wrong := mutate(rng, text))
            assert is_sane(found), (seed, wrong[:300])
        if found is None:
            num_refused += 1
            with pytest.raises(InputError) as caught:
                parse(wrong)
            assert len(str(caught.value).splitlines()) == 1, (seed, str(caught.value)[:300])
        assert time.process_time() - start < 1, seed
    assert num_refused > 400
