"""The text that names a domain: `KIND:NAME`, such as `folder:PATH` or `tfds:NAME[/CONFIG][:SPLIT]`, with `?options`."""

import contextlib
import dataclasses
import glob
import urllib.parse
from collections.abc import Sequence

from jtln_tf.config.errors import InputError
from jtln_tf.config.names import normalize_name

# The two sides of a transfer, in the order of the cost matrix: rows, columns.
SIDES = ("source", "target")


@dataclasses.dataclass(frozen=True)
class DomainKind:
    """One kind of domain.

    Attributes:
        lister: `MODULE.FUNCTION` in `jtln_tf.data.sources`. It is named rather than imported, so that a specification
            is parsed without TensorFlow.
        options: Options of a specification beside those that all kinds have.
        class_table: What its class table is called in messages; empty if it has none.
    """

    lister: str
    options: tuple[str, ...] = ("crop_bottom",)
    class_table: str = ""


KINDS = {
    # Arrays of pixels, from which no rows of a file can be cropped.
    "builtin": DomainKind("builtin.list_builtin", options=()),
    "folder": DomainKind("folder.list_folder", options=("crop_bottom", "class_depth"), class_table="its class table"),
    "list": DomainKind("file_list.list_file_list", class_table="the list"),
    "records": DomainKind("records.list_records", class_table="the records"),
    "tfds": DomainKind("tfds.list_tfds", class_table="the data set"),
}
_OPTIONS = ("classes", "exclude", "per_class", "test_fraction", "validation_fraction")
# Far above what anybody means, and far below what a system refuses in words of its own.
MOST_IMAGES = 10**9
_SHARE = (float, lambda share: 0 <= share < 1, "in [0, 1)")


def _whole_number(least, most):
    return int, lambda number: least <= number <= most, f"a whole number of at least {least} and at most {most:,}"


# Type, test, and what a message says of each option that is a number.
_NUMBERS = {
    "per_class": _whole_number(1, MOST_IMAGES),
    "test_fraction": _SHARE,
    "validation_fraction": _SHARE,
    "crop_bottom": _whole_number(0, 100_000),
    "class_depth": _whole_number(1, 20),
}
_LONGEST_NUMBER = 20
_LISTS = (".csv", ".tsv", ".jsonl")


@dataclasses.dataclass(frozen=True)
class DomainSpec:
    """A parsed domain specification.

    Attributes:
        text: The specification as given.
        kind: One of `KINDS`.
        name: Name or path between the kind and the `?`.
        classes: Names or shell patterns (`Greek_*`) of the classes to use; empty means all.
        exclude: Names or shell patterns of the classes to leave out.
        per_class: Training images drawn from each class, or None for all.
        crop_bottom: Rows of pixels cut off the bottom of each image file before it is resized (a caption, say).
        class_depth: Folders whose names, one below the other, make the name of a class of a `folder:`.
        test_fraction: Share held out as test if the data has no test split; None for the domain's own default.
        validation_fraction: Share of the training images held out if the data has no validation split.
        filters: `(column, values)` pairs that must match what is known of a class: the folder's `classes.csv`, further
            columns of a list, or the other class labels of a data set.
    """

    text: str
    kind: str
    name: str
    classes: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    per_class: int | None = None
    crop_bottom: int = 0
    class_depth: int = 1
    test_fraction: float | None = None
    validation_fraction: float = 0.1
    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def with_labels(self, per_class: int | None) -> "DomainSpec":
        """Returns the specification with another `per_class`; None or 0 keeps its own.

        Raises:
            InputError: If it asks for another number itself.
        """
        if not per_class:
            return self
        if self.per_class not in (None, per_class):
            raise InputError(
                f"`labels_per_class` must agree with per_class in the domain. Received: {per_class} and {self.text!r}."
            )
        return dataclasses.replace(self, per_class=per_class)

    def with_classes(self, names: Sequence[str], *, keeps_per_class: bool = True) -> "DomainSpec":
        """Returns the specification of the classes of these names alone, with or without its own `per_class`."""
        replaced = ("classes", "exclude") if keeps_per_class else ("classes", "exclude", "per_class")
        query = self.text.partition("?")[2]
        kept = [item for item in query.split("&") if item and item.partition("=")[0] not in replaced]
        classes = ",".join(urllib.parse.quote(glob.escape(name), safe="") for name in names)
        return parse_domain_spec(f"{self.kind}:{self.name}?{'&'.join([*kept, f'classes={classes}'])}")


def domain_options(kind: str) -> tuple[str, ...]:
    """Returns the options of a kind of domain; any other name is taken for a column of its class table."""
    return (*_OPTIONS, *KINDS[kind].options)


def parse_domain_spec(text: str | DomainSpec) -> DomainSpec:
    """Parses a domain specification, such as `folder:photos?classes=A,B&per_class=3&family=Fruit`.

    Names with a comma or an ampersand are written percent-encoded. An option that is no attribute of `DomainSpec` is
    one of its `filters`. A parsed specification is returned unchanged.

    Raises:
        InputError: If the kind or an option is unknown, the name is empty, or a value does not fit.
    """
    if isinstance(text, DomainSpec):
        return text
    kind, colon, rest = text.partition(":")
    if not colon or kind not in KINDS:
        raise InputError(f"A domain must be written KIND:NAME, KIND one of {', '.join(KINDS)}. Received: {text!r}.")
    name, _, query = rest.partition("?")
    if not name:
        raise InputError(f"A domain needs a name after '{kind}:'. Received: {text!r}.")
    values = {"text": text, "kind": kind, "name": name}
    filters, given = [], set()
    for item in filter(None, query.split("&")):
        key, _, value = item.partition("=")
        key = _unquote(key)
        if not value.strip(","):
            raise InputError(f"A domain option must be written name=value. Received: {item!r} in {text!r}.")
        if key in given:
            raise InputError(f"A domain option must be given once. Received: {key!r} twice in {text!r}.")
        given.add(key)
        if key in ("classes", "exclude"):
            values[key] = _split_names(value)
        elif key in domain_options(kind):
            values[key] = _parse_number(key, value, text)
        elif KINDS[kind].class_table:
            filters.append((key, _split_names(value)))
        else:
            raise InputError(
                f"A domain option must be one of {', '.join(domain_options(kind))}. Received: {key!r} in {text!r}."
            )
    return DomainSpec(**values, filters=tuple(filters))


def domain_of_path(text: str) -> str:
    """Returns the specification of a domain that is named by a path alone: of a list, or of a folder or an archive.

    A text that is a specification already is returned as it is.
    """
    if text.partition(":")[0] in KINDS:
        return text
    path, question, options = text.partition("?")
    kind = "list" if path.lower().endswith(_LISTS) else "folder"
    return f"{kind}:{path}{question}{options}"


def _split_names(value):
    return tuple(_unquote(name) for name in value.split(",") if name)


def _unquote(name):
    # As the names of classes: what looks the same is the same, on whatever system it was typed.
    return normalize_name(urllib.parse.unquote(name))


def _parse_number(key, value, text):
    number_type, fits, meaning = _NUMBERS[key]
    with contextlib.suppress(ValueError):
        number = number_type(value)
        if fits(number):
            return number
    if len(value) > _LONGEST_NUMBER:
        raise InputError(
            f"`{key}` must be {meaning}. Received: {value[:_LONGEST_NUMBER]!r}... ({len(value)} characters)."
        )
    raise InputError(f"`{key}` must be {meaning}. Received: {value!r} in {text!r}.")
