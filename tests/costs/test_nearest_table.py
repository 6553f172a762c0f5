import html
import re

import markdown
import numpy as np

from jtln_tf.costs.matrix import CostMatrix
from jtln_tf.costs.nearest_table import format_nearest


def test_table_of_the_nearest():
    values = [[0.0, 0.256], [0.5, 0.125], [1.0, 1 / 3], [0.75, 0.9]]
    parameters = {"images_per_class": 5, "features": "pixels", "texts": ["a", "b"]}
    matrix = CostMatrix(values, ("cat", "dog", "cow", "ant"), ("lynx", "wolf"), "mkmmd", parameters)
    assert format_nearest(matrix).splitlines() == [
        "## Nearest source classes by mkmmd (images_per_class: 5, features: pixels)",
        "",
        "| target class | nearest | second | third |",
        "|---|---|---|---|",
        "| lynx | cat 0.00 | dog 0.50 | ant 0.75 |",
        "| wolf | dog 0.12 | cat 0.26 | cow 0.33 |",
    ]
    assert format_nearest(matrix, 5).splitlines()[2] == "| target class | nearest | second | third | no. 4 |"
    # Two decimals cannot tell these.
    matrix = CostMatrix([[1.28e-4], [1e-3]], ("s0", "s1"), ("t0",))
    assert format_nearest(matrix).splitlines()[-1] == "| t0 | s0 1.3e-04 | s1 1.0e-03 |"


def test_odd_names_are_shown_as_they_are():
    names = ("a|b", "back\\", "\\|", "*bold*", "`code`", "<b>tag</b>", "[a](b)", "snake_case_name", "new\nline", "数字")
    text = format_nearest(CostMatrix(np.eye(len(names)), names, names, metric="a|b\nc"), 1)
    # What TensorBoard renders its texts with.
    rendered = markdown.markdown(text, extensions=["tables"])
    headings = [html.unescape(found) for found in re.findall(r"<h2>(.*?)</h2>", rendered, re.DOTALL)]
    cells = [html.unescape(found) for found in re.findall(r"<td>(.*?)</td>", rendered, re.DOTALL)]
    assert headings == [r"Nearest source classes by a|b\nc"]
    shown = [name.replace("\n", r"\n") for name in names]
    assert cells[::2] == shown
    assert all(cell.rsplit(" ", 1)[0] in shown for cell in cells[1::2]) and len(cells) == 2 * len(names)
