import io
import itertools
import os

import numpy as np
import pytest
from PIL import Image

from jtln_tf.config import InputError
from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.report.cost_matrix import build_figure, order_by_clustering, save_picture
from jtln_tf.report.heat_map import draw_pixels

# Of no width, of several lines, in no font, half of a pair; and mathematical text.
ODD_NAMES = ("Käse", "数字", "😀🫠", "e\u0301", "a\u200bb", "tab\tnew\nline", "\ue123", "\udc80", "$x^2$", r"$\frac{$")
LONG_NAMES = ("a" * 30 + "b" * 30, "c" * 40, "d" * 41, "数" * 50)


def build(values, sources=None, targets=None, **changes):
    sources = sources or tuple(f"s{row}" for row in range(len(values)))
    targets = targets or tuple(f"t{column}" for column in range(len(values[0])))
    return CostMatrix(values, sources, targets, **changes)


def draw_values(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape)


def shown_names(axes):
    return [[text.get_text() for text in texts] for texts in (axes.get_yticklabels(), axes.get_xticklabels())]


def framed_names(axes):
    """Source and target names of the framed cells."""
    sources, targets = shown_names(axes)
    boxes = [path.get_extents() for path in axes.collections[0].get_paths()]
    assert all(np.isclose([box.width, box.height], 1).all() for box in boxes)
    return {(sources[round((box.y0 + box.y1) / 2)], targets[round((box.x0 + box.x1) / 2)]) for box in boxes}


@pytest.mark.parametrize(
    "values",
    [*(draw_values(*shape) for shape in [(1, 1), (1, 5), (5, 1), (310, 3)]), np.zeros((6, 4))]
    + [np.repeat(draw_values(3, 4), 3, axis=0), 3e38 * draw_values(6, 5).astype("float32"), 1e-40 * draw_values(6, 5)],
)
def test_orders_are_permutations(values):
    rows, columns = order_by_clustering(values)
    assert sorted(rows.tolist()) == list(range(values.shape[0]))
    assert sorted(columns.tolist()) == list(range(values.shape[1]))


def test_blocks_stand_together_along_the_diagonal():
    rng = np.random.default_rng(0)
    row_blocks, column_blocks = rng.permutation(np.arange(30) % 5), rng.permutation(np.arange(20) % 5)
    values = (row_blocks[:, None] != column_blocks[None]) + 0.3 * rng.uniform(size=(30, 20))
    rows, columns = order_by_clustering(values)
    # Each block is one run, and both sides have the same order of runs.
    runs = [next(zip(*itertools.groupby(blocks), strict=True)) for blocks in (row_blocks[rows], column_blocks[columns])]
    assert len(runs[0]) == 5 and runs[0] == runs[1]


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (41, 40)])
def test_cells_stand_at_their_names_and_the_nearest_are_framed(shape):
    matrix = build(draw_values(*shape))
    axes = build_figure(matrix).axes[0]
    sources, targets = shown_names(axes)
    assert sorted(sources) == sorted(matrix.source_classes) and sorted(targets) == sorted(matrix.target_classes)
    np.testing.assert_array_equal(axes.images[0].get_array(), matrix.align(sources, targets).values)
    expected = {(nearest[0], target) for target, nearest in matrix.nearest(1).items()}
    assert framed_names(axes) == (expected if shape[0] > 1 else set())


def test_ties_are_framed_and_small_pictures_tell_the_costs():
    axes = build_figure(build([[0, 1, 2], [0, 1, 1], [1, 1, 0.256]])).axes[0]
    assert framed_names(axes) == {("s0", "t0"), ("s1", "t0"), ("s2", "t2")}
    assert len(axes.texts) == 9
    for text in axes.texts:
        column, row = text.get_position()
        assert text.get_text() == f"{axes.images[0].get_array()[row, column]:.2f}"
    assert not build_figure(build(draw_values(41, 40))).axes[0].texts


@pytest.mark.parametrize(("shape", "row_step"), [((136, 106), 1), ((600, 100), 2)])
def test_names_are_thinned_if_they_would_overlap_and_nothing_is_cut_off(shape, row_step):
    matrix = build(draw_values(*shape), targets=tuple(f"{'long name ' * 3}{column}" for column in range(shape[1])))
    figure = build_figure(matrix)
    axes, (rows, _) = figure.axes[0], order_by_clustering(matrix.values)
    sources, targets = shown_names(axes)
    assert sources == [matrix.source_classes[row] for row in rows[::row_step]] and len(targets) == shape[1]
    assert (f"1 name in {row_step}" in axes.get_ylabel()) == (row_step > 1)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.get_yticklabels()]
    assert all(below.y1 < above.y1 - 0.8 * above.height for above, below in zip(boxes, boxes[1:], strict=False))
    box = figure.get_tightbbox()
    assert box.x0 >= 0 and box.y0 >= 0
    assert box.x1 <= figure.get_figwidth() and box.y1 <= figure.get_figheight()


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (10, 10), (400, 20)])
def test_pictures_have_a_bounded_size(tmp_path, shape):
    matrix, path = build(draw_values(*shape), metric="mkmmd"), tmp_path / "cost.png"
    save_picture(matrix, str(path))
    with Image.open(path) as image:
        assert image.format == "PNG" and min(image.size) > 250 and max(image.size) <= 4000
        saved = np.asarray(image.convert("RGB"))
    array = draw_pixels(build_figure(matrix, most_pixels=1200))
    assert array.dtype == np.uint8 and max(array.shape) <= 1200 and min(array.shape[:2]) >= 250
    if shape == (10, 10):
        # So small a picture is the same in both.
        np.testing.assert_array_equal(array, saved)
    with pytest.raises(InputError, match=r"^`plot` must end in \.png\. Received: '.*cost.PNG'\.$"):
        save_picture(matrix, path.with_suffix(".PNG"))
    assert os.listdir(tmp_path) == ["cost.png"]


def test_odd_and_long_names_can_be_drawn():
    figure = build_figure(build(draw_values(10, 4), ODD_NAMES, LONG_NAMES, metric="$a$"))
    # Warnings of missing glyphs, and errors of mathematical text, come when it is drawn.
    figure.savefig(io.BytesIO(), format="png")
    sources, targets = map(set, shown_names(figure.axes[0]))
    assert sources == {
        *("Käse", r"\u6570\u5b57", "😀\\U0001fae0", "\u00e9", r"a\u200bb", r"tab\tnew\nline", r"\ue123", r"\udc80"),
        *("$x^2$", r"$\frac{$"),
    }
    codes = r"\u6570" * 3
    assert targets == {"a" * 20 + "…" + "b" * 19, "c" * 40, "d" * 20 + "…" + "d" * 19, f"{codes}…{codes}"}
    assert "$a$" in figure.get_suptitle()
