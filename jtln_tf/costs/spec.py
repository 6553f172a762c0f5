"""The text that names a class cost matrix: a metric or a file, several with weights, or the shuffled control.

Imports no TensorFlow.
"""

import dataclasses
import math

from jtln_tf.config import MOST_FACTOR, InputError
from jtln_tf.costs.metrics import METRICS
from jtln_tf.tables import is_table_name

COST_METRICS = tuple(METRICS)
# Names the matrix that is found while training.
ONLINE = "online"
_SHUFFLED = "shuffled:"


@dataclasses.dataclass(frozen=True)
class CostSpec:
    """A parsed cost matrix specification.

    Attributes:
        text: The specification as given.
        terms: `(weight, metric or path)` pairs, at least one.
        is_shuffled: Whether the rows are shuffled among the source classes, as an uninformative control.
    """

    text: str
    terms: tuple[tuple[float, str], ...]
    is_shuffled: bool

    @property
    def is_online(self) -> bool:
        """Whether the matrix is found while training."""
        return self.metrics == (ONLINE,)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics among the terms."""
        return tuple(name for _, name in self.terms if not _is_file(name))

    @property
    def looks_through_network(self) -> bool:
        """Whether the matrix depends on the weights of a network."""
        return self.is_online or any(METRICS[name].looks_at == "network" for name in self.metrics)

    @property
    def looks_at_pixels(self) -> bool:
        """Whether a metric looks at the images themselves, not through the network."""
        return not self.is_online and any(METRICS[name].looks_at == "pixels" for name in self.metrics)

    @property
    def files(self) -> tuple[str, ...]:
        """The paths among the terms."""
        return tuple(name for _, name in self.terms if _is_file(name))


def _is_file(name):
    return name.lower().endswith(".npz") or is_table_name(name)


def parse_cost_spec(text: "str | CostSpec", option: str = "cost_matrix") -> CostSpec:
    """Parses `[shuffled:][WEIGHT*]NAME[+[WEIGHT*]NAME...]`; a NAME is a metric or the path of a .npz or .csv file.

    A parsed specification is returned unchanged. Messages call it `option`.

    Raises:
        InputError: If a name is neither a metric nor a file, a weight is not positive, or `online` is one of several.
    """
    if isinstance(text, CostSpec):
        return text
    is_shuffled, terms, part = text.startswith(_SHUFFLED), [], None
    for piece in text.removeprefix(_SHUFFLED).split("+"):
        # A path may hold a plus, so a term goes on until it is a metric or ends like a file.
        part = piece if part is None else f"{part}+{piece}"
        if _is_file(part) or part.rpartition("*")[2] in (*COST_METRICS, ONLINE):
            terms.append(_parse_term(part, text, option))
            part = None
    if part is not None:
        raise InputError(
            f"`{option}` must be a .npz or .csv file or one of {', '.join(COST_METRICS)}, {ONLINE}; several are "
            f"written 0.7*mkmmd+0.3*text, a control shuffled:mkmmd. Received: {text!r}."
        )
    if any(name == ONLINE for _, name in terms) and (len(terms) > 1 or is_shuffled):
        raise InputError(f"`{option}`=online must stand alone. Received: {text!r}.")
    if len(terms) == 1 and terms[0][0] != 1:
        raise InputError(f"`{option}` must have weights only if several are combined. Received: {text!r}.")
    return CostSpec(text, tuple(terms), is_shuffled)


def _parse_term(part, text, option):
    factor, star, name = part.partition("*")
    if not star:
        factor, name = "1", part
    try:
        weight = float(factor)
    except ValueError:
        weight = math.nan
    if not 0 < weight <= MOST_FACTOR:
        rule = f"weights above 0, of at most {MOST_FACTOR:.0e}, written 0.5*NAME"
        raise InputError(f"`{option}` must have {rule}. Received: {factor!r} in {text!r}.")
    return weight, name
