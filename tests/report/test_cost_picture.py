import html
import io
import os
import pathlib
import re

import markdown
import numpy as np
import pytest
from PIL import Image

from jtln_tf.config import InputError
from jtln_tf.costs import CostMatrix
from jtln_tf.report.cost_matrix import build_figure, draw_picture, format_nearest, order_by_clustering, save_picture

LETTERS = ("Käse", "数字", "дом", "한국어", "हिन्दी", "😀🫠", "e\u0301")
# Of no width, of several lines, in no font, and half of a pair.
UNSHOWN = ("a\u200bb", "tab\tnew\nline", "\ue123", "\udc80")
UNICODE_NAMES = LETTERS + UNSHOWN
MATH_NAMES = ("$", "$$", "$x^2$", r"$\frac{$", r"\$", "a_b^c", "100 % {}")
LONG_NAMES = ("W" * 5000, "W" * 4999 + "i", "x" * 41, "y" * 40, "数" * 300)


def build(values, sources=None, targets=None, **changes):
    values = np.asarray(values)
    sources = sources or tuple(f"s{row}" for row in range(values.shape[0]))
    targets = targets or tuple(f"t{column}" for column in range(values.shape[1]))
    return CostMatrix(values, sources, targets, **changes)


def draw_values(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape)


def render(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))


def shown_names(axes):
    return [[text.get_text() for text in texts] for texts in (axes.get_yticklabels(), axes.get_xticklabels())]


def framed_cells(axes):
    """(row, column) of the frames, as positions in the picture."""
    boxes = [path.get_extents() for path in axes.collections[0].get_paths()]
    assert all(np.isclose([box.width, box.height], 1).all() for box in boxes)
    return {(round((box.y0 + box.y1) / 2), round((box.x0 + box.x1) / 2)) for box in boxes}


def is_run(flags):
    """Whether the true flags stand together."""
    positions = np.flatnonzero(flags)
    return positions[-1] - positions[0] + 1 == len(positions)


@pytest.mark.parametrize(
    "values",
    [
        *(draw_values(*shape) for shape in [(1, 1), (1, 5), (5, 1), (2, 2), (7, 4), (4, 7), (310, 3), (3, 310)]),
        np.zeros((6, 4)),
        np.full((3, 5), 0.7),
        np.repeat(draw_values(3, 4), 3, axis=0),
        3e38 * draw_values(6, 5).astype("float32"),
        1e-40 * draw_values(6, 5),
    ],
    ids=lambda values: "x".join(map(str, values.shape)),
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
    for block in range(5):
        assert is_run(row_blocks[rows] == block) and is_run(column_blocks[columns] == block)
    _, first_rows = np.unique(row_blocks[rows], return_index=True)
    _, first_columns = np.unique(column_blocks[columns], return_index=True)
    np.testing.assert_array_equal(np.argsort(first_rows), np.argsort(first_columns))


def test_one_to_one_classes_give_a_diagonal():
    rng = np.random.default_rng(1)
    partner = rng.permutation(12)
    values = 0.5 + 0.5 * rng.uniform(size=(12, 12))
    values[np.arange(12), partner] = 0
    rows, columns = order_by_clustering(values)
    np.testing.assert_array_equal(partner[rows], columns)


def test_rows_follow_the_columns_that_they_are_nearest_to():
    rng = np.random.default_rng(4)
    owner = rng.integers(0, 5, 14)
    values = 0.5 + 0.5 * rng.uniform(size=(5, 14))
    values[owner, np.arange(14)] = 0.1 * rng.uniform(size=14)
    rows, columns = order_by_clustering(values)
    lowest = [min(range(14), key=lambda position: values[row, columns[position]]) for row in rows]
    assert lowest == sorted(lowest) and len(set(lowest)) == 5


def test_a_column_that_is_near_to_all_does_not_hide_the_diagonal():
    # The second six rows are no column's nearest.
    values = np.concatenate([1 - np.eye(6, 7), 1 - 0.5 * np.eye(6, 7)])
    values[:, 6] = np.linspace(0, 1e-3, 12)
    shuffle = np.random.default_rng(5).permutation(12)
    rows, columns = order_by_clustering(values[shuffle])
    # Row 0 is also the nearest to the last column.
    partner = shuffle[rows] % 6
    positions = [np.flatnonzero(columns == column)[0] for column in partner if column]
    assert positions == sorted(positions)


def test_points_on_a_line_come_in_their_order():
    points = np.random.default_rng(2).uniform(size=25)
    rows, columns = order_by_clustering(points[None])
    assert rows.tolist() == [0]
    np.testing.assert_array_equal(columns, np.argsort(points))
    # The cheapest row is the nearest.
    rows, columns = order_by_clustering(points[:, None])
    np.testing.assert_array_equal(rows, np.argsort(points))
    assert columns.tolist() == [0]


def test_order_does_not_depend_on_the_given_one():
    values, rng = draw_values(9, 8), np.random.default_rng(3)
    row_shuffle, column_shuffle = rng.permutation(9), rng.permutation(8)
    shuffled = values[np.ix_(row_shuffle, column_shuffle)]
    np.testing.assert_array_equal(
        shuffled[np.ix_(*order_by_clustering(shuffled))], values[np.ix_(*order_by_clustering(values))]
    )


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (10, 10), (41, 40), (20, 3), (3, 20)])
def test_cells_stand_at_their_names(shape):
    matrix = build(draw_values(*shape))
    axes = build_figure(matrix).axes[0]
    sources, targets = shown_names(axes)
    assert sorted(sources) == sorted(matrix.source_classes) and sorted(targets) == sorted(matrix.target_classes)
    np.testing.assert_array_equal(axes.images[0].get_array(), matrix.align(sources, targets).values)


@pytest.mark.parametrize("shape", [(2, 3), (10, 10), (41, 40), (3, 20)])
def test_nearest_source_class_of_each_target_class_is_framed(shape):
    matrix = build(draw_values(*shape))
    axes = build_figure(matrix).axes[0]
    sources, targets = shown_names(axes)
    framed = {(sources[row], targets[column]) for row, column in framed_cells(axes)}
    assert framed == {(nearest[0], target) for target, nearest in matrix.nearest(1).items()}


def test_all_the_nearest_are_framed_and_none_where_costs_are_equal():
    matrix = build([[0, 1, 2], [0, 1, 1], [1, 1, 0]])
    axes = build_figure(matrix).axes[0]
    sources, targets = shown_names(axes)
    framed = {(sources[row], targets[column]) for row, column in framed_cells(axes)}
    assert framed == {("s0", "t0"), ("s1", "t0"), ("s2", "t2")}


def test_small_pictures_tell_the_costs():
    values = np.array([[0, 0.256], [1, 0.5]])
    axes = build_figure(build(values)).axes[0]
    assert sorted(text.get_text() for text in axes.texts) == ["0.00", "0.26", "0.50", "1.00"]
    for text in axes.texts:
        column, row = text.get_position()
        assert text.get_text() == f"{axes.images[0].get_array()[row, column]:.2f}"
    assert not build_figure(build(draw_values(41, 40))).axes[0].texts


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (10, 10), (1000, 100)])
def test_picture_is_a_png_of_bounded_size(tmp_path, shape):
    path = tmp_path / "cost.png"
    matrix = build(draw_values(*shape), metric="mkmmd")
    save_picture(matrix, str(path))
    with Image.open(path) as image:
        assert image.format == "PNG"
        width, height = image.size
        image.load()
    assert 250 < width <= 4000 and 250 < height <= 4000
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(("shape", "row_step"), [((136, 106), 1), ((1000, 100), 3)])
def test_names_are_thinned_where_they_would_overlap(shape, row_step):
    matrix = build(draw_values(*shape))
    figure = build_figure(matrix)
    axes = figure.axes[0]
    rows, _ = order_by_clustering(matrix.values)
    sources, targets = shown_names(axes)
    assert sources == [matrix.source_classes[row] for row in rows[::row_step]]
    assert len(targets) == shape[1]
    assert (f"1 name in {row_step}" in axes.get_ylabel()) == (row_step > 1)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.get_yticklabels()]
    assert all(below.y1 < above.y1 - 0.8 * above.height for above, below in zip(boxes, boxes[1:], strict=False))


def test_nothing_is_cut_off():
    matrix = build(draw_values(20, 20), targets=tuple(f"{'long name ' * 3}{column}" for column in range(20)))
    figure = build_figure(matrix)
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert box.x0 >= 0 and box.y0 >= 0
    assert box.x1 <= figure.get_figwidth() and box.y1 <= figure.get_figheight()


@pytest.mark.parametrize("values", [np.zeros((3, 3)), np.full((3, 3), 0.7), np.full((2, 2), 3e38)])
def test_equal_costs_have_one_colour_and_no_frame(values):
    figure = build_figure(build(values))
    axes = figure.axes[0]
    assert not framed_cells(axes) and "framed" not in figure.get_suptitle()
    image = axes.images[0]
    assert len(np.unique(image.to_rgba(image.get_array()).reshape(-1, 4), axis=0)) == 1
    assert image.norm.vmin == pytest.approx(values.max()) and image.norm.vmin < image.norm.vmax


@pytest.mark.parametrize("shape", [(1, 1), (10, 10), (41, 40), (136, 106), (200, 2)])
def test_array_of_the_picture(shape):
    array = draw_picture(build(draw_values(*shape), metric="mkmmd"))
    assert array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
    assert max(array.shape) <= 1200 and min(array.shape[:2]) >= 250
    assert array.flags.c_contiguous and array.flags.owndata
    assert len(np.unique(array.reshape(-1, 3), axis=0)) > 10


def test_array_is_the_picture(tmp_path):
    matrix = build(draw_values(10, 10))
    save_picture(matrix, tmp_path / "cost.png")
    # So small a picture is the same in both.
    np.testing.assert_array_equal(draw_picture(matrix), np.asarray(Image.open(tmp_path / "cost.png").convert("RGB")))


def test_same_matrix_gives_the_same_picture(tmp_path):
    for name in ("one.png", "two.png"):
        save_picture(build(draw_values(5, 5)), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize("names", [UNICODE_NAMES, MATH_NAMES, LONG_NAMES], ids=["unicode", "math", "long"])
def test_names_of_all_kinds(names):
    matrix = build(draw_values(len(names), len(names)), names, names, metric=names[1])
    # Warnings of missing glyphs, and errors of mathematical text, come when it is drawn.
    assert max(render(build_figure(matrix)).shape) <= 1600
    assert max(render(build_figure(build([[1]], names[:1], names[:1]))).shape) <= 800


def test_characters_that_the_font_lacks_are_shown_by_their_codes():
    axes = build_figure(build(draw_values(len(UNICODE_NAMES), 1), UNICODE_NAMES)).axes[0]
    assert set(shown_names(axes)[0]) == {
        *("Käse", r"\u6570\u5b57", "дом", r"\ud55c\uad6d\uc5b4", r"\u0939\u093f\u0928\u094d\u0926\u0940"),
        *("😀\\U0001fae0", r"a\u200bb", r"tab\tnew\nline", r"\ue123", r"\udc80", "e\u0301"),
    }


def test_dollars_are_shown_as_they_are():
    figure = build_figure(build(draw_values(len(MATH_NAMES), 1), MATH_NAMES, metric="$a$"))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert set(shown_names(axes)[0]) == set(MATH_NAMES)
    assert "$a$" in figure.get_suptitle()
    # Mathematical text would take no dollars' width.
    widths = {text.get_text(): text.get_window_extent().width for text in axes.get_yticklabels()}
    assert widths["$$"] > 1.5 * widths["$"] > 0 and widths["$x^2$"] > widths["a_b^c"]


def test_long_names_lose_their_middles():
    names = ("a" * 30 + "b" * 30, "c" * 40, "d" * 41, "数" * 50)
    axes = build_figure(build(draw_values(4, 1), names)).axes[0]
    assert set(shown_names(axes)[0]) == {
        "a" * 20 + "…" + "b" * 19,
        "c" * 40,
        "d" * 20 + "…" + "d" * 19,
        # Codes are not cut.
        r"\u6570" * 3 + "…" + r"\u6570" * 3,
    }


@pytest.mark.parametrize("name", ["cost.jpg", "cost", "cost.png.bak", "cost.PNG"])
def test_wrong_suffix(tmp_path, name):
    with pytest.raises(InputError, match=rf"^`plot` must end in \.png\. Received: '.*{name}'\.$"):
        save_picture(build(draw_values(2, 2)), tmp_path / name)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("fails", ["write_bytes", "replace"])
def test_failed_save_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch, fails):
    def write_half(path, content):
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    def refuse(*paths):
        raise OSError(28, "No space left on device")

    path = tmp_path / "cost.png"
    save_picture(build(draw_values(2, 2)), path)
    before = path.read_bytes()
    if fails == "replace":
        monkeypatch.setattr(os, "replace", refuse)
    else:
        monkeypatch.setattr(pathlib.Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="No space left"):
        save_picture(build(draw_values(3, 3)), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["cost.png"]


def test_table_of_the_nearest():
    values = [[0.0, 0.256], [0.5, 0.125], [1.0, 1 / 3], [0.75, 0.9]]
    parameters = {"images_per_class": 5, "features": "pixels", "texts": ["a", "b"]}
    matrix = build(values, ("cat", "dog", "cow", "ant"), ("lynx", "wolf"), metric="mkmmd", parameters=parameters)
    assert format_nearest(matrix).splitlines() == [
        "## Nearest source classes by mkmmd (images_per_class: 5, features: pixels)",
        "",
        "| target class | nearest | second | third |",
        "|---|---|---|---|",
        "| lynx | cat 0.00 | dog 0.50 | ant 0.75 |",
        "| wolf | dog 0.12 | cat 0.26 | cow 0.33 |",
    ]


def test_table_of_few_and_of_many():
    assert format_nearest(build([[0.5], [0.25]]), 1).splitlines()[2:] == [
        "| target class | nearest |",
        "|---|---|",
        "| t0 | s1 0.25 |",
    ]
    assert format_nearest(build([[0.5]])).splitlines() == [
        "## Nearest source classes by unknown",
        "",
        "| target class | nearest |",
        "|---|---|",
        "| t0 | s0 0.50 |",
    ]
    rows = format_nearest(build(draw_values(9, 1)), 5).splitlines()
    assert rows[2] == "| target class | nearest | second | third | no. 4 | no. 5 |"


@pytest.mark.parametrize(
    ("scale", "cells"), [(1e-3, ["1.3e-04", "1.0e-03"]), (1e30, ["1.3e+29", "1.0e+30"]), (0, ["0.00", "0.00"])]
)
def test_costs_that_two_decimals_cannot_tell(scale, cells):
    matrix = build(scale * np.array([[0.128], [1.0]]))
    assert format_nearest(matrix).splitlines()[-1] == f"| t0 | s0 {cells[0]} | s1 {cells[1]} |"


def test_table_shows_odd_names_as_they_are():
    names = (
        "a|b",
        "back\\",
        "\\|",
        "*bold*",
        "`code`",
        "<b>tag</b>",
        "[a](b)",
        "snake_case_name",
        "new\nline",
        "1 & 2",
        "数字",
    )
    text = format_nearest(build(draw_values(len(names), len(names)), names, names, metric="a|b\nc"), 1)
    # What TensorBoard renders its texts with.
    rendered = markdown.markdown(text, extensions=["tables"])
    headings = [html.unescape(found) for found in re.findall(r"<h2>(.*?)</h2>", rendered, re.DOTALL)]
    cells = [html.unescape(found) for found in re.findall(r"<td>(.*?)</td>", rendered, re.DOTALL)]
    assert headings == [r"Nearest source classes by a|b\nc"]
    shown = [name.replace("\n", r"\n") for name in names]
    assert cells[::2] == shown
    assert all(cell.rsplit(" ", 1)[0] in shown for cell in cells[1::2]) and len(cells) == 2 * len(names)
