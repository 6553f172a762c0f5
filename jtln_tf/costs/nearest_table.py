"""The nearest classes of a cost matrix as text."""

import numpy as np

from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.files import escape_name

_ORDINALS = ("nearest", "second", "third")


def format_nearest(matrix: CostMatrix, count: int = 3) -> str:
    """Formats the `count` nearest source classes of each target class, with their costs, as a Markdown table.

    The heading names the metric and those of its parameters that are single values.
    """
    ranks = range(min(count, len(matrix.source_classes)))
    titles = ["target class", *(_ORDINALS[rank] if rank < len(_ORDINALS) else f"no. {rank + 1}" for rank in ranks)]
    known = [f"{key}: {value}" for key, value in matrix.parameters.items() if isinstance(value, str | int | float)]
    details = f" ({', '.join(known)})" if known else ""
    lines = [
        f"## Nearest source classes by {_escape_markdown(matrix.metric + details)}",
        "",
        f"| {' | '.join(titles)} |",
        "|---" * len(titles) + "|",
    ]
    rows = {name: row for row, name in enumerate(matrix.source_classes)}
    form = choose_format(matrix.values)
    for column, (target, sources) in enumerate(matrix.nearest(count).items()):
        costs = [format(matrix.values[rows[source], column], form) for source in sources]
        cells = [f"{_escape_markdown(source)} {cost}" for source, cost in zip(sources, costs, strict=True)]
        lines.append(f"| {' | '.join([_escape_markdown(target), *cells])} |")
    return "\n".join(lines)


def choose_format(values: np.ndarray) -> str:
    """Returns a format that shows costs with two digits: with an exponent if they are very small or very large."""
    highest = values.max()
    return ".2f" if highest == 0 or 0.1 <= highest < 1e4 else ".1e"


def _escape_markdown(text):
    marked = "".join(f"\\{character}" if character in "\\|`*[" else character for character in text)
    # Not every dialect knows a backslash before this one.
    return "".join(escape_name(marked)).replace("<", "&lt;")
