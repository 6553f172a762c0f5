"""What a domain holds before any image is decoded, and the choice of its classes."""

import dataclasses
import difflib
import fnmatch
import re
from collections.abc import Collection

import numpy as np

from jtln_tf.config import KINDS, DomainSpec, InputError, domain_options
from jtln_tf.data.examples import Examples

# Names of splits in lower case, as people write them; the usual ones first.
SPLIT_NAMES = {
    "train": "train",
    **dict.fromkeys(("val", "validation", "valid"), "validation"),
    "test": "test",
    "training": "train",
    **dict.fromkeys(("dev", "develop", "development"), "validation"),
    # As Hugging Face's image folders take them.
    **dict.fromkeys(("testing", "eval", "evaluation"), "test"),
    **dict.fromkeys(("holdout", "heldout"), "test"),
}
# What people write behind it: `training_set`, `Test Images`.
_SPLIT_ENDING = re.compile(r"[ _-]*(set|data|images)$")
_BETWEEN_WORDS = re.compile(r"[ _-]+")


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
    """All examples of a domain.

    Attributes:
        class_names: Class names; a label is a position in them.
        splits: `Examples` by split name: `train`, and `validation` and `test` if the data has them.
        default_test_fraction: Share that is held out if there is no test split and the specification has no share.
        image_size: Side in pixels that is used if none is asked for.
        channels: Channels that are used if none are asked for.
        class_table: Columns of each class by class name, if the data has such a table.
    """

    class_names: tuple[str, ...]
    splits: dict[str, Examples]
    default_test_fraction: float = 0.2
    image_size: int = 224
    channels: int = 3
    class_table: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)


def find_split_name(name: str) -> str | None:
    """Returns the split that a folder, or a text in a list, names; None if it names none."""
    name = _SPLIT_ENDING.sub("", name.strip().lower())
    return SPLIT_NAMES.get(_BETWEEN_WORDS.sub("", name))


def select_classes(listing: Listing, spec: DomainSpec) -> Listing:
    """Keeps the classes that a specification asks for; their labels count anew, in the same order.

    Raises `InputError` if a name or pattern matches no class, a column is unknown, or nothing remains.
    """
    kept = set(listing.class_names)
    if spec.classes:
        kept &= set().union(*(_match(pattern, listing.class_names, spec, "classes") for pattern in spec.classes))
    for column, values in spec.filters:
        kept &= _classes_with(column, values, listing.class_table, spec)
    for pattern in spec.exclude:
        kept -= _match(pattern, listing.class_names, spec, "exclude")
    if not kept:
        raise InputError(f"A domain must have at least one class. Received: none left in {spec.text!r}.")
    class_names = tuple(name for name in listing.class_names if name in kept)
    new_label = np.full(len(listing.class_names), -1, np.int32)
    new_label[[name in kept for name in listing.class_names]] = np.arange(len(class_names))
    splits = {}
    for name, examples in listing.splits.items():
        labels = new_label[examples.labels]
        splits[name] = dataclasses.replace(examples, labels=labels).take(np.flatnonzero(labels >= 0))
    return dataclasses.replace(listing, class_names=class_names, splits=splits)


def require_known_class(name: str, known: Collection[str], place: str) -> None:
    """Checks that a class is one of those of the train split; `InputError` says its place and the nearest name."""
    if name in known:
        return
    near = [one for one in known if one.casefold() == name.casefold()] or difflib.get_close_matches(name, known, n=1)
    hint = f" Hint: train has {near[0]!r}." if near else ""
    raise InputError(f"A class must be in the train split too. Received: {place}.{hint}")


def require_columns(spec: DomainSpec, columns: Collection[str]) -> None:
    """Raises `InputError` unless every unknown option of a specification is one of the columns of its class table."""
    for column, _ in spec.filters:
        if column not in columns:
            known = ", ".join(domain_options(spec.kind))
            if columns:
                known += f", or a column of {KINDS[spec.kind].class_table} ({', '.join(sorted(columns))})"
            elif spec.kind == "folder":
                known += ", or a column of a classes.csv in the folder"
            raise InputError(f"A domain option must be one of {known}. Received: {column!r} in {spec.text!r}.")


def _match(pattern, class_names, spec, option):
    matches = {name for name in class_names if name == pattern or fnmatch.fnmatchcase(name, pattern)}
    if not matches:
        close = difflib.get_close_matches(pattern, class_names, n=3, cutoff=0.0)
        raise InputError(
            f"`{option}` must name classes of the domain, for example {', '.join(close)}. "
            f"Received: {pattern!r} in {spec.text!r}."
        )
    return matches


def _classes_with(column, values, rows, spec):
    require_columns(spec, set().union(*(row.keys() for row in rows.values())))
    present = {row[column] for row in rows.values() if column in row}
    for value in values:
        if value not in present:
            close = ", ".join(difflib.get_close_matches(value, sorted(present), n=3, cutoff=0.0))
            table = KINDS[spec.kind].class_table
            raise InputError(
                f"`{column}` must be a value in {table}, for example {close}. Received: {value!r} in {spec.text!r}."
            )
    return {name for name, row in rows.items() if row.get(column) in values}
