"""Pictures of confusion matrices."""

import typing
from collections.abc import Sequence

import numpy as np

from jtln_tf.files import escape_name
from jtln_tf.report.captions import find_shown_characters, shorten_name

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

# In pixels: the room of all cells, the largest cell, and the least heights of a name and of a count.
_ROOM, _WIDEST_CELL, _NAME_HEIGHT, _ROOM_FOR_COUNT = 760, 46, 9, 22
_DOTS_PER_INCH = 100


def draw_confusion(confusion: np.ndarray, class_names: Sequence[str]) -> "Figure":
    """Draws counts [classes, classes] of true (rows) and predicted classes; a cell's colour is its share of the row.

    Counts stand in the cells if there is room, as with about 30 classes. All names are shown up to about 80 classes,
    then every second, third, ...
    """
    # Not pyplot, which would look for a screen.
    from matplotlib.figure import Figure

    confusion = np.asarray(confusion)
    count = len(class_names)
    can_show = find_shown_characters()
    names = [shorten_name(escape_name(name, can_show)) for name in class_names]
    cell = min(_ROOM / count, _WIDEST_CELL)
    side, margin = max(cell * count, 120), 6 * max(map(len, names)) + 60
    figure = Figure(
        figsize=((side + margin + 90) / _DOTS_PER_INCH, (side + margin) / _DOTS_PER_INCH), dpi=_DOTS_PER_INCH
    )
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    step = max(1, int(np.ceil(_NAME_HEIGHT / cell)))
    text = {"fontsize": 8 if cell >= 12 else 6, "parse_math": False}
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(0, count, step), names[::step], rotation=90, **text)
    axes.set_yticks(range(0, count, step), names[::step], **text)
    note = f" (1 name in {step})" if step > 1 else ""
    axes.set(xlabel=f"predicted class{note}", ylabel=f"true class{note}")
    if cell >= _ROOM_FOR_COUNT:
        for row, column in np.argwhere(confusion):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", fontsize=7, color=color)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.6, pad=0.02)
    return figure


def find_confused(confusion: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """Returns the most frequent confusions of counts [classes, classes]: true class, predicted class, images."""
    wrong = np.array(confusion)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(row), int(column), int(wrong[row, column])) for row, column in pairs if wrong[row, column]]
